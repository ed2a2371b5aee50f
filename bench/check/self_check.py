#!/usr/bin/env python3
"""Whether every client contestant does the work it is measured by: self_check.py BUILD-DIRECTORY.

Each makes its checks against an nginx of this program, plain and over TLS, one at a time and many at once. Counts and
bytes have to be right; nginx's log tells whether TLS sessions were resumed when they should be, and not when they
should not; and a certificate of somebody else's authority, or for another host, has to be refused. The last line counts
what held and what did not.
"""

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
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
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        return None
    return [json.loads(line) for line in done.stdout.splitlines()]


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
        for kind in ("ecdsa", "rsa"):
            directory = pathlib.Path(made) / f"tls-{kind}"
            directory.mkdir()
            check_tls(directory, kind, {name: command for name, command in programs.items() if name not in PLAIN_ONLY})
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
