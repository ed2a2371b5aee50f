"""Which programs check sites, and how each is started."""

import pathlib
import subprocess
import sys

PLAIN_ONLY = ("uring", "uring-unlinked", "uring-parsed", "epoll", "epoll-parsed", "streams")
CANNOT_RESUME = ("aiohttp",)
_PROGRAMS = ("torc", *PLAIN_ONLY, "curl", "openssl", "go")
_SCRIPT = pathlib.Path(__file__).resolve().parent / "check.py"


def _has_aiohttp(python):
    try:
        return subprocess.run([python, "-c", "import aiohttp"], capture_output=True).returncode == 0
    except OSError:
        return False


def contestants(build):
    """What was built in the directory `build`, and what is missing there.

    Gives a dictionary from a name to the beginning of its command, which the URL follows, and a list of sentences.
    Debian's aiohttp belongs to Debian's Python, which need not be the first that is found.
    """
    found, missing = {}, []
    for name in _PROGRAMS:
        program = pathlib.Path(build).resolve() / "bench" / "check" / f"bench-check-{name}"
        if program.exists():
            found[name] = [str(program)]
        else:
            missing.append(f"{name} was not built: there is no {program}")
    for python in (sys.executable, "/usr/bin/python3"):
        if _has_aiohttp(python):
            found["aiohttp"] = [python, str(_SCRIPT)]
            break
    else:
        missing.append("aiohttp is not installed (Debian: python3-aiohttp)")
    return found, missing
