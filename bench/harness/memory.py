"""User memory of idle connections and of suspended tasks.

A server is given some connections first, so that what it makes once is there; the difference between then and many
thousand more, divided by their number, is what one costs. Counted is anonymous memory of the process, as the kernel
sees it; what the kernel itself holds for a socket is the same for everybody.
"""

import contextlib
import itertools
import json
import pathlib
import resource
import subprocess
import sys
import tempfile

import measure
import works

FIRST = 1_000


def raise_descriptor_limit(wanted=200_000):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def anonymous_bytes(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
    raise measure.Failure("the kernel does not tell what a process holds")


def idle_connections(build, kind, start_server, crowds):
    """Bytes for each connection at each of the numbers in `crowds`."""
    with start_server() as (server, port):
        client = measure.Client([pathlib.Path(build) / "bench/memory/bench-memory-idle", port, kind], measure.PEER_CORE)
        client.order(FIRST, 1)
        before, opened, found = anonymous_bytes(server.pid), FIRST, {}
        for crowd in crowds:
            client.order(crowd - opened, 1)
            opened = crowd
            found[crowd] = (anonymous_bytes(server.pid) - before) / (crowd - FIRST)
        client.end()
        return found


def connections(build, scale):
    crowds = [10_000, 50_000] if scale >= 1 else [3_000]
    allowed = raise_descriptor_limit() - 100
    if crowds[-1] > allowed:
        most = allowed // 1000 * 1000
        if most <= FIRST:
            print(f"not measured: only {allowed:,} descriptors are allowed here (ulimit -Hn)", file=sys.stderr)
            return
        print(f"{most:,} connections instead of {crowds[-1]:,}: more are not allowed here (ulimit -Hn)", file=sys.stderr)
        crowds = [*(each for each in crowds if each < most), most]
    with tempfile.TemporaryDirectory(prefix="torc-bench-") as directory:
        files = works.make_leaf(directory)
        kinds = {"echo": works.programs(build, "echo", ("torc-uring", "torc-epoll", "uring", "epoll", "asio-epoll", "libuv")),
                 "http": works.programs(build, "server", works.SERVERS),
                 "https": works.programs(build, "server", ("torc-uring", "torc-epoll", "go"))}
        for kind, servers in kinds.items():
            arguments = [0, *files] if kind == "https" else [0]
            contestants = {name: lambda start=start: works.own_server(*start, arguments)
                           for name, start in servers.items()}
            if kind != "echo":
                contestants["nginx"] = lambda: works.serving_nginx(directory, kind == "https")
            for name, start_server in contestants.items():
                try:
                    for crowd, size_bytes in idle_connections(build, kind, start_server, crowds).items():
                        yield {"what": f"an idle {kind} connection", "contestant": name, "connections": crowd,
                               "bytes": size_bytes}
                except (measure.Failure, OSError) as failure:
                    print(f"memory of {kind}: {name} drops out: {failure}", file=sys.stderr)


def tasks(build):
    for kind in ("task", "pair", "check"):
        told = subprocess.run([pathlib.Path(build) / "bench/memory/bench-memory-tasks", kind], capture_output=True,
                              text=True, check=True).stdout
        row = json.loads(told)
        yield {"what": row["what"], "contestant": "torc-uring", "bytes": row["bytes"], "frames": row["frames"]}


def measure_all(build, scale):
    for row in itertools.chain(tasks(build), connections(build, scale)):
        print(f"{row['what']}{', of ' + format(row['connections'], ',') if 'connections' in row else ''}: "
              f"{row['contestant']} {row['bytes']:.0f} bytes" + (f", {row['frames']:.1f} frames" if "frames" in row else ""),
              flush=True)
        yield row
