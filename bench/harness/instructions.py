"""User instructions of one unit of work, counted by callgrind.

Each contestant does the work twice, the second time more of it: the difference, divided by what was more, has nothing of
its start and its end. Nothing in it depends on a clock or on what else the machine does, so it tells a change of one
percent, but it does not count the kernel's part. Go and Python are left out, callgrind can not follow their threads.
"""

import contextlib
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import measure
import works
from nginx import start_nginx_server

TOTAL = re.compile(r"^(?:summary|totals): (\d+)$", re.MULTILINE)


def under_callgrind(command, file):
    # It warns of system calls younger than itself; programs do without those.
    return ["valgrind", "--tool=callgrind", "--quiet", "--log-file=/dev/null", f"--callgrind-out-file={file}",
            *map(str, command)]


def counted(work):
    """Instructions of one unit; `work(wrap, more)` does it, begins programs as `wrap` says, and tells how many it did."""
    taken = []
    with tempfile.TemporaryDirectory(prefix="torc-bench-") as directory:
        for more in (1, 3):
            file = pathlib.Path(directory) / f"{more}.out"
            units = work(lambda command: under_callgrind(command, file), more)
            # What it was told to write has a number behind its name.
            written = [each for each in sorted(pathlib.Path(directory).glob(f"{file.name}*")) if each.stat().st_size > 0]
            found = TOTAL.search(written[-1].read_text()) if written else None
            if not found:
                raise measure.Failure("callgrind wrote nothing")
            taken.append((units, int(found.group(1))))
    (few, least), (many, most) = taken
    return (most - least) / (many - few)


@contextlib.contextmanager
def server_under(wrap, start, arguments=()):
    """A server of ours under callgrind, which is told to write what it counted: a signal would not reach it in its ring."""
    command, environment = start
    server = measure.start([*wrap(command), *arguments], measure.MEASURED_CORE, environment, stdout=subprocess.PIPE)
    try:
        port = measure.listening_port(server)
        yield server, port
        subprocess.run(["callgrind_control", "--dump", str(server.pid)], capture_output=True, check=True, timeout=30)
    finally:
        server.kill()
        server.wait()


def echo(build, command, environment, size, connections, count):
    def work(wrap, more):
        with server_under(wrap, (command, environment)) as (_, port):
            client = measure.Client([pathlib.Path(build) / "bench/echo/bench-echo-load", port, size, connections],
                                    measure.PEER_CORE)
            client.wait_until_connected()
            client.order(count, 1)
            client.order(count * more, 1)
            client.end()
        return count * more
    return counted(work)


def check(command, environment, arguments, at_once, count):
    def work(wrap, more):
        client = measure.Client([*wrap(command), *arguments], measure.MEASURED_CORE, environment)
        client.order(count, at_once)
        client.order(count * more, at_once)
        client.end()
        return count * more
    return counted(work)


def serve(start_server, path, connections, seconds):
    def work(wrap, more):
        with start_server(wrap) as (_, port):
            return works.wrk(f"http://127.0.0.1:{port}{path}", connections, seconds * more)["units"]
    return counted(work)


@contextlib.contextmanager
def nginx_under(wrap, directory):
    process, port = start_nginx_server(directory, False, wrap)
    try:
        measure.pin(process, measure.MEASURED_CORE)
        yield process, port
    finally:
        measure.stop(process)


def cells(build, scale):
    """What is counted: a kind of work, its numbers, its unit, and for each contestant the function that counts it."""
    servers = works.programs(build, "echo", works.ECHO)
    yield ("echo", {"bytes": 64, "connections": 32}, "message",
           {name: lambda start=start: echo(build, *start, 64, 32, int(6400 * scale)) for name, start in servers.items()})
    clients = works.check_commands(build, [name for name in works.PLAIN if name not in ("openssl", "go", "aiohttp")])
    with works.pinned_nginx() as (port, _):
        yield ("check", {"at once": 100}, "check",
               {name: lambda start=start: check(*start, [f"http://{works.CERTIFIED_HOST}:{port}/"], 100,
                                                int(1000 * scale)) for name, start in clients.items()})
    clients = works.check_commands(build, [name for name in works.TLS if name not in ("go", "aiohttp")])
    with works.pinned_nginx("ecdsa") as (port, ca_file):
        arguments = [f"https://{works.CERTIFIED_HOST}:{port}/", str(ca_file)]
        yield ("https", {"certificate": "ecdsa", "at once": 10}, "check",
               {name: lambda start=start: check(*start, arguments, 10, int(100 * scale))
                for name, start in clients.items()})
    if not shutil.which("wrk"):
        return
    found = works.programs(build, "server", ("torc-uring", "torc-epoll", "epoll", "epoll-parsed"))
    seconds = max(1, round(2 * scale))
    with tempfile.TemporaryDirectory(prefix="torc-bench-") as directory:
        def own(start):
            return lambda wrap: server_under(wrap, start, [0])
        contestants = {name: own(start) for name, start in found.items()}
        contestants["nginx"] = lambda wrap: nginx_under(wrap, directory)
        yield ("server", {"bytes": 13, "connections": 64}, "request",
               {name: lambda start_server=start_server: serve(start_server, "/13", 64, seconds)
                for name, start_server in contestants.items()})


def measure_all(build, scale):
    if not shutil.which("valgrind"):
        print("not measured: valgrind is not installed, which counts instructions", file=sys.stderr)
        return
    for work, numbers, unit, contestants in cells(build, scale):
        found = {}
        for name, count in contestants.items():
            try:
                found[name] = count()
            except (measure.Failure, OSError) as failure:
                print(f"instructions of {work}: {name} drops out: {failure}", file=sys.stderr)
        told = ", ".join(f"{value} {name}" for name, value in numbers.items())
        print(f"{work}: {told}: user instructions of one {unit}: "
              + ", ".join(f"{name} {each:,.0f}" for name, each in sorted(found.items(), key=lambda item: item[1])),
              flush=True)
        yield {"work": work, "numbers": numbers, "unit": unit, "contestants": found}
