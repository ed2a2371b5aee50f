"""The work that is measured, and who does it.

A cell is one kind of work with its numbers; a table row of the results. Each contestant of a cell is a function that
does the work once, from its start to its end, and gives a `measure.Sample`.
"""

import contextlib
import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Callable

BENCH = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(BENCH), str(BENCH / "check")]

import measure  # noqa: E402
from contestants import CANNOT_RESUME, contestants as check_programs  # noqa: E402
from nginx import CERTIFIED_HOST, make_certificates, start_nginx, start_nginx_server  # noqa: E402


@dataclasses.dataclass
class Cell:
    work: str
    numbers: dict  # what tells this cell from the others of its work, in the order of the table's columns
    unit: str
    contestants: dict[str, Callable[[], measure.Sample]]


# Contestants that are a program on one of torc's drivers.
ON_DRIVER = {"torc-uring": ("torc", "uring"), "torc-epoll": ("torc", "epoll"), "streams-uring": ("streams", "uring")}


def programs(build, work, names):
    """Those of the contestants that were built, each with the environment it needs."""
    found = {}
    for name in names:
        program, driver = ON_DRIVER.get(name, (name, None))
        path = pathlib.Path(build) / "bench" / work / f"bench-{work}-{program}"
        if path.exists():
            found[name] = ([str(path)], {"TORC_DRIVER": driver} if driver else {})
        else:
            print(f"not measured: {name} was not built for {work}", file=sys.stderr)
    return found


# ---- echo -------------------------------------------------------------------------------------------------------------

ECHO = ("uring", "torc-uring", "epoll", "torc-epoll", "asio-epoll", "asio-uring", "libuv")


def echo_once(build, command, environment, size, connections, at_once, count):
    server = measure.start(command, measure.MEASURED_CORE, environment, stdout=subprocess.PIPE)
    try:
        port = measure.listening_port(server)
        client = measure.Client([pathlib.Path(build) / "bench/echo/bench-echo-load", port, size, connections],
                                measure.PEER_CORE)
        client.wait_until_connected()
        client.order(max(2 * connections * at_once, count // 10), at_once)
        taken = measure.sample(server.pid, count, lambda: client.order(count, at_once))
        client.end()
        return taken
    finally:
        measure.stop(server)


ON_THE_WAY_BYTES = 256 << 20  # of all messages together; with much more the kernel drops, and waits before it repeats


def echo(build, scale, sizes=(64, 1024, 16384), crowds=(1, 32, 512, 5000), depths=(1, 16)):
    servers = programs(build, "echo", ECHO)
    for depth in depths:
        for size in sizes:
            for connections in crowds:
                at_once = max(1, min(depth, ON_THE_WAY_BYTES // (size * connections)))
                # About a second of work each; what is pipelined and what is large moves in pieces of its own size.
                count = int(scale * 60_000 * (4 if depth > 1 and size <= 1024 else 1) / (2 if size > 1024 else 1))
                yield Cell(
                    "echo", {"mode": "pipelined" if depth > 1 else "ping-pong", "bytes": size, "connections": connections},
                    "message",
                    {name: lambda start=start: echo_once(build, *start, size, connections, at_once, count)
                     for name, start in servers.items()})


# ---- checks -----------------------------------------------------------------------------------------------------------

PLAIN = ("uring", "uring-unlinked", "uring-parsed", "epoll", "epoll-parsed", "streams-uring", "torc-uring", "torc-epoll",
         "curl", "openssl", "go", "aiohttp")
TLS = ("openssl", "torc-uring", "torc-epoll", "curl", "go", "aiohttp")


def check_commands(build, names):
    built, missing = check_programs(build)
    for sentence in missing:
        print("not measured:", sentence, file=sys.stderr)
    found = {}
    for name in names:
        program, driver = ON_DRIVER.get(name, (name, None))
        if program in built:
            found[name] = (built[program], {"GOMAXPROCS": "1", **({"TORC_DRIVER": driver} if driver else {})})
    return found


def check_once(command, environment, arguments, at_once, count):
    client = measure.Client([*command, *arguments], measure.MEASURED_CORE, environment)
    try:
        client.order(max(at_once, count // 10), at_once)
        return measure.sample(client.process.pid, count, lambda: client.order(count, at_once))
    finally:
        client.end()


@contextlib.contextmanager
def pinned_nginx(tls=None):
    with tempfile.TemporaryDirectory(prefix="torc-bench-") as directory:
        process, port, ca_file = start_nginx(directory, tls)
        try:
            measure.pin(process, measure.PEER_CORE)
            yield port, ca_file
        finally:
            measure.stop(process)


def checks(build, scale, crowds=(1, 100, 1000)):
    clients = check_commands(build, PLAIN)
    with pinned_nginx() as (port, _):
        for at_once in crowds:
            def count(name):
                return int(scale * max({"aiohttp": 2500, "go": 12000}.get(name, 20000), 3 * at_once))
            yield Cell(
                "check", {"at once": at_once}, "check",
                {name: lambda name=name, start=start: check_once(
                    *start, [f"http://{CERTIFIED_HOST}:{port}/"], at_once, count(name))
                 for name, start in clients.items() if name != "openssl" or at_once == 1})


def tls_checks(build, scale, crowds=(1, 100), kinds=("ecdsa", "rsa")):
    clients = check_commands(build, TLS)
    for kind in kinds:
        with pinned_nginx(kind) as (port, ca_file):
            for resume in (False, True):
                for at_once in crowds:
                    count = int(scale * (3000 if resume else 1500))
                    arguments = [f"https://{CERTIFIED_HOST}:{port}/", str(ca_file)] + (["resume"] if resume else [])
                    yield Cell(
                        "https", {"certificate": kind, "handshake": "resumed" if resume else "full", "at once": at_once},
                        "check",
                        {name: lambda start=start: check_once(*start, arguments, at_once, count)
                         for name, start in clients.items() if not (resume and name in CANNOT_RESUME)})


# ---- servers ----------------------------------------------------------------------------------------------------------

SERVERS = ("torc-uring", "torc-epoll", "epoll", "epoll-parsed", "go")
WRK_LINE = re.compile(r"^units (\d+) errors (\d+) us (\d+) p50 (\d+) p99 (\d+) p999 (\d+)$", re.MULTILINE)


def wrk(url, connections, seconds):
    told = subprocess.run(
        ["taskset", "-c", str(measure.PEER_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s",
         "-s", str(BENCH / "server" / "report.lua"), url],
        capture_output=True, text=True, timeout=seconds + 60)
    line = WRK_LINE.search(told.stdout)
    if not line:
        raise measure.Failure(f"wrk did not report: {told.stdout}{told.stderr}")
    units, errors, us, p50, p99, p999 = map(int, line.groups())
    if errors:
        raise measure.Failure(f"wrk met {errors} errors at {url}")
    return {"units": units, "per_second": units * 1e6 / us, "p50_ns": p50 * 1e3, "p99_ns": p99 * 1e3, "p999_ns": p999 * 1e3}


def serve_once(start_server, scheme, path, connections, seconds):
    with start_server() as (process, port):
        url = f"{scheme}://127.0.0.1:{port}{path}"
        wrk(url, connections, 1)
        return measure.sample(process.pid, 1, lambda: wrk(url, connections, seconds))


@contextlib.contextmanager
def own_server(command, environment, arguments):
    server = measure.start([*command, *arguments], measure.MEASURED_CORE, environment, stdout=subprocess.PIPE)
    try:
        yield server, measure.listening_port(server)
    finally:
        measure.stop(server)


@contextlib.contextmanager
def serving_nginx(directory, tls):
    process, port = start_nginx_server(directory, tls)
    try:
        measure.pin(process, measure.MEASURED_CORE)
        yield process, port
    finally:
        measure.stop(process)


def make_leaf(directory):
    """The files of a server's certificate and key, made in `directory`."""
    make_certificates(pathlib.Path(directory), "ecdsa")
    return [f"{directory}/leaf.pem", f"{directory}/leaf.key"]


def servers(build, scale, sizes=(13, 16384), crowds=(64, 512)):
    if not shutil.which("wrk"):
        print("not measured: wrk is not installed, which loads the servers", file=sys.stderr)
        return
    found = programs(build, "server", SERVERS)
    seconds = max(1, round(2 * scale))
    with tempfile.TemporaryDirectory(prefix="torc-bench-") as directory:
        files = make_leaf(directory)
        for tls in (False, True):
            arguments = [0, *files] if tls else [0]
            for size in sizes:
                for connections in crowds:
                    def run(start_server):
                        return serve_once(start_server, "https" if tls else "http", f"/{size}", connections, seconds)
                    contestants = {
                        name: lambda start=start: run(lambda: own_server(*start, arguments))
                        for name, start in found.items() if not (tls and name.startswith("epoll"))}
                    contestants["nginx"] = lambda: run(lambda: serving_nginx(directory, tls))
                    yield Cell("server", {"transport": "TLS" if tls else "plain", "bytes": size, "connections": connections},
                               "request", contestants)
