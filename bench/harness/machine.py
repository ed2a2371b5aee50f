"""The machine of a run: what it is, and a network that has nothing else on it."""

import os
import platform
import shutil
import subprocess
import sys

INSIDE = "TORC_BENCH_NETWORK"


def enter_own_network():
    """Begins the program again in a network namespace that has a loopback and nothing else; for root alone.

    There the ports and the TIME_WAITs are ours, and no setting of the machine is touched.
    """
    if os.geteuid() != 0 or os.environ.get(INSIDE) or not shutil.which("unshare"):
        return
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", sys.executable, *sys.argv])


def prepare_network():
    """Says whether the network is ours, after making it so."""
    if not os.environ.get(INSIDE):
        return False
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name, value in {
        "net/ipv4/ip_local_port_range": "1024 65535",
        "net/ipv4/tcp_tw_reuse": "1",
        "net/ipv4/tcp_max_tw_buckets": "200000",
        "net/core/somaxconn": "8192",
    }.items():
        with open(f"/proc/sys/{name}", "w") as file:
            file.write(value)
    return True


def version_of(*command):
    """The first line in which a program tells its version, or None."""
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError:
        return None
    lines = (told.stdout + told.stderr).strip().splitlines()
    return lines[0] if lines else None


def describe():
    with open("/proc/cpuinfo") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo") as file:
        memory_gib = round(int(file.readline().split()[1]) / 2**20)
    packages = ["liburing-dev", "libssl3", "libboost1.81-dev", "libuv1", "libcurl4", "nginx", "golang-go",
                "python3-aiohttp", "wrk"]
    versions = {}
    for package in packages:
        told = version_of("dpkg-query", "-W", "-f", "${Version}\n", package)
        if told and "no packages" not in told:
            versions[package] = told
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(models),
        "memory_gib": memory_gib,
        "kernel": platform.release().split("-")[0],
        "system": next((line.split("=")[1].strip().strip('"') for line in open("/etc/os-release")
                        if line.startswith("PRETTY_NAME")), ""),
        "compiler": version_of(os.environ.get("CXX", "g++").split()[-1], "--version"),
        "versions": versions,
    }
