#!/usr/bin/env python3
"""Whether every client contestant does the work it is measured by: self_check.py BUILD-DIRECTORY.

Each makes its checks against an nginx of this program, plain and over TLS, one at a time and many at once. Counts and
bytes have to be right, also where a site answers in pieces, with another status, or not all of it; nginx's log tells
whether TLS sessions were resumed when they should be, and not when they should not; and a certificate of somebody
else's authority, or for another host, has to be refused. The last line counts what held and what did not.
"""

import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from contestants import CANNOT_RESUME, PLAIN_ONLY, contestants  # noqa: E402
from nginx import ACCESS_LOG, CERTIFIED_HOST, PAGE_BYTES, UNCERTIFIED_HOST, make_certificates, start_nginx  # noqa: E402

CHECKS = 200
# curl's cache has one session for each host, and OpenSSL spoils that for good when any connection that began with it
# ends uncleanly; many at once do that to each other.
RESUMED_AT_LEAST = {"curl": 0.4}

passed = failed = skipped = 0


def expect(holds, sentence):
    global passed, failed
    if holds:
        passed += 1
    else:
        failed += 1
        print("does not hold:", sentence, flush=True)


def answers(command, orders):
    """What a contestant answers to the orders."""
    text = "".join(f"{count} {at_once}\n" for count, at_once in orders)
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0:
        return None
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextlib.contextmanager
def site(status, promised, pieces):
    """A site that answers each request with the pieces of a body that are given, and closes."""
    head = f"HTTP/1.1 {status}\r\ncontent-length:   {promised}\r\nConnection: close\r\n\r\n".encode()
    listener = socket.create_server((CERTIFIED_HOST, 0), backlog=64)

    def serve():
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):  # who does not like the status may go at once
                asked = connection.recv(65536)
                if not asked.endswith(b"\r\n\r\n"):
                    return
                for piece in (head[:20], head[20:-2], head[-2:] + pieces[0], *pieces[1:]):
                    connection.sendall(piece)
                    time.sleep(0.001)  # so that it is seen alone, as a rule

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://{CERTIFIED_HOST}:{listener.getsockname()[1]}/"
    finally:
        with socket.create_connection(listener.getsockname()) as last:
            last.sendall(b"end")
        thread.join(timeout=10)
        listener.close()


@contextlib.contextmanager
def nginx(directory, tls=None):
    process, port, ca_file = start_nginx(directory, tls, log=True)
    try:
        yield port, ca_file
    finally:
        process.terminate()
        process.wait(timeout=30)


def is_all_good(answer):
    times = [answer["p50_ns"], answer["p99_ns"], answer["p999_ns"], answer["wall_ns"]]
    return (answer["checks"], answer["failed"], answer["bytes"]) == (CHECKS, 0, CHECKS * PAGE_BYTES) and \
        0 < times[0] and times == sorted(times)


def does_its_work(name, command, what):
    got = answers(command, [(CHECKS, 1), (CHECKS, 20)])
    expect(got is not None and len(got) == 2, f"{name} answers both orders, {what}")
    for answer in got or []:
        expect(is_all_good(answer), f"{name} makes {CHECKS} good checks, {what}: {answer}")


def counts_failures(name, command, why):
    got = answers(command, [(3, 2)])
    expect(bool(got) and (got[0]["checks"], got[0]["failed"], got[0]["bytes"]) == (3, 3, 0),
           f"{name} counts every check as failed {why}: {got}")


def lines_of(log, count):
    """The log's lines. nginx writes the last of them after the client has its answer, and perhaps is gone."""
    until = time.monotonic() + 10
    while True:
        lines = log.read_text().splitlines()
        if len(lines) >= count or time.monotonic() > until:
            return lines
        time.sleep(0.01)


def resumptions(log, name, command, what):
    """The share of the checks that nginx saw resume."""
    log.write_text("")  # nginx appends
    does_its_work(name, command, what)
    lines = lines_of(log, 2 * CHECKS)
    expect(len(lines) == 2 * CHECKS, f"nginx saw {2 * CHECKS} requests of {name}, {what}, not {len(lines)}")
    return sum(line.endswith(" r") for line in lines) / (2 * CHECKS)


def check_plain(directory, programs):
    with nginx(directory / "plain") as (port, _):
        for name, command in programs.items():
            does_its_work(name, [*command, f"http://{CERTIFIED_HOST}:{port}/"], "plain")
            counts_failures(name, [*command, f"http://{CERTIFIED_HOST}:1/"], "when nobody listens")


def check_answers(programs):
    body = [b"a" * 1000, b"b" * 12000, b"c"]
    size = sum(map(len, body))
    for name, command in programs.items():
        with site("200 OK", size, body) as url:
            got = answers([*command, url], [(5, 2)])
            expect(bool(got) and (got[0]["checks"], got[0]["failed"], got[0]["bytes"]) == (5, 0, 5 * size),
                   f"{name} takes an answer that comes in pieces: {got}")
        with site("200 OK", size + 1, body) as url:
            counts_failures(name, [*command, url], "when a body is cut short")
        with site("404 Not Found", size, body) as url:
            counts_failures(name, [*command, url], "when the status is not 200")


def check_tls(directory, kind, programs):
    global skipped
    other = directory / "other"
    other.mkdir()
    foreign = make_certificates(other, kind)
    with nginx(directory / kind, kind) as (port, ca_file):
        log = directory / kind / ACCESS_LOG
        good_url = f"https://{CERTIFIED_HOST}:{port}/"
        for name, command in programs.items():
            share = resumptions(log, name, [*command, good_url, str(ca_file)], f"{kind}, full handshakes")
            expect(share == 0, f"{name} resumes no session when it should not, {kind}: {share:.3f}")
            if name in CANNOT_RESUME:
                skipped += 1
            else:
                share = resumptions(log, name, [*command, good_url, str(ca_file), "resume"], f"{kind}, resumed")
                expect(share > RESUMED_AT_LEAST.get(name, 0.9), f"{name} resumes sessions, {kind}: {share:.3f}")
            counts_failures(name, [*command, good_url, str(foreign)], f"when a foreign authority is trusted, {kind}")
            counts_failures(name, [*command, f"https://{UNCERTIFIED_HOST}:{port}/", str(ca_file)],
                            f"when the certificate is for another host, {kind}")


def main():
    global skipped
    if len(sys.argv) != 2:
        sys.exit("self_check.py BUILD-DIRECTORY")
    programs, missing = contestants(sys.argv[1])
    for sentence in missing:
        skipped += 1
        print("skipped:", sentence, flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-check-") as made:
        check_plain(pathlib.Path(made), programs)
        check_answers(programs)
        for kind in ("ecdsa", "rsa"):
            directory = pathlib.Path(made) / f"tls-{kind}"
            directory.mkdir()
            check_tls(directory, kind, {name: command for name, command in programs.items() if name not in PLAIN_ONLY})
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
