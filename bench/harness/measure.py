"""Processes that are measured: pinned to a core, and what the kernel says they cost.

Theory of operation. One core is the measured process's, another one its peer's; nothing else of ours runs meanwhile.
CPU time is that of the process's own CPU clock, which counts all its threads, those that io_uring starts included, in
nanoseconds. What somebody else took of the measured core in the same time is noted beside it: a round that was
disturbed is measured again.
"""

import dataclasses
import json
import os
import select
import signal
import subprocess
import time

MEASURED_CORE = max(os.sched_getaffinity(0))
PEER_CORE = min(os.sched_getaffinity(0))
LONGEST_ORDER_S = 120


class Failure(Exception):
    """A contestant did not do what it was asked for."""


@dataclasses.dataclass
class Sample:
    """One contestant in one round. Times of a unit of work are microseconds."""

    units: int
    cpu_us: float
    per_second: float
    p50_us: float
    p99_us: float
    p999_us: float
    peak_kib: int
    others: float  # part of the measured core's time that went to others


def start(command, core, environment=None, **options):
    """Starts a process on one core; it ends with us."""
    return subprocess.Popen(
        [str(word) for word in command],
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        env={**os.environ, **(environment or {})},
        text=True,
        **options,
    )


def pin(process, core):
    os.sched_setaffinity(process.pid, {core})


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_seconds(pid):
    """What a process has used so far, on all its threads."""
    return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of the process


def peak_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def busy_seconds(core):
    """How long a core has worked, for anybody."""
    with open("/proc/stat") as file:
        for line in file:
            name, *ticks = line.split()
            if name == f"cpu{core}":
                user, nice, system, _, _, interrupt, softirq, *_ = map(int, ticks)
                return (user + nice + system + interrupt + softirq) / os.sysconf("SC_CLK_TCK")
    raise Failure(f"there is no core {core}")


def listening_port(server):
    line = server.stdout.readline().split()
    if len(line) != 2 or line[0] != "listening":
        raise Failure(f"a server did not start: {' '.join(map(str, server.args))}")
    return int(line[1])


class Client:
    """A program that carries out orders, a line each, and answers with a line of JSON."""

    def __init__(self, command, core, environment=None):
        self.process = start(command, core, environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def wait_until_connected(self):
        listening_port(self.process)

    def order(self, count, at_once):
        self.process.stdin.write(f"{count} {at_once}\n")
        self.process.stdin.flush()
        answered, _, _ = select.select([self.process.stdout], [], [], LONGEST_ORDER_S)
        if not answered:
            self.process.kill()
            raise Failure(f"{count} were not done in {LONGEST_ORDER_S} s: {' '.join(map(str, self.process.args))}")
        line = self.process.stdout.readline()
        if not line:
            raise Failure(f"a client ended: {' '.join(map(str, self.process.args))}")
        done = json.loads(line)
        if done["failed"]:
            raise Failure(f"{done['failed']} of {count} failed: {' '.join(map(str, self.process.args))}")
        return done

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)


def sample(pid, units, work):
    """Measures process `pid` while `work` is done; `work` gives throughput and latencies."""
    busy, used, began = busy_seconds(MEASURED_CORE), cpu_seconds(pid), time.monotonic()
    done = work()
    used, busy, took = cpu_seconds(pid) - used, busy_seconds(MEASURED_CORE) - busy, time.monotonic() - began
    units = done.get("units", units)
    return Sample(
        units=units,
        cpu_us=used * 1e6 / units,
        per_second=done.get("per_second") or units * 1e9 / done["wall_ns"],
        p50_us=done["p50_ns"] / 1e3,
        p99_us=done["p99_ns"] / 1e3,
        p999_us=done["p999_ns"] / 1e3,
        peak_kib=peak_kib(pid),
        others=max(0.0, (busy - used) / took),
    )
