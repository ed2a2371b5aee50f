"""An nginx of one process that serves one page, for clients to be measured against."""

import os
import pathlib
import shutil
import socket
import subprocess
import time

PAGE_BYTES = 3000
CERTIFIED_HOST = "127.0.0.1"
UNCERTIFIED_HOST = "127.0.0.2"  # it is served there as well, but the certificate does not name it
ACCESS_LOG = "access.log"

_KEYS = {
    "ecdsa": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "rsa": ["-newkey", "rsa:2048"],
}

# The page stands in the configuration, so that head and body leave with one system call and arrive in one piece. What
# nginx does is not measured, but it must not hold up what is.
_CONFIGURATION = """
daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
worker_rlimit_nofile 65536;
events {{ worker_connections 20000; multi_accept on; }}
http {{
    log_format resumed '$status $ssl_session_reused';
    access_log {log};
    default_type text/html;
    {temporary}
    server {{
        {listen}
        {tls}
        {site}
    }}
}}
"""
# For nginx as the one that is measured: its fastest ways to serve, and connections that never end.
_SERVED_SITE = """
        keepalive_timeout 1h;
        keepalive_requests 1000000000;
        sendfile on;
        tcp_nopush on;
        open_file_cache max=100;
        root {directory};
        location = /13 {{ return 200 'xxxxxxxxxxxxx'; }}
"""
_TLS = """
        ssl_protocols TLSv1.3;
        ssl_certificate {directory}/leaf.pem;
        ssl_certificate_key {directory}/leaf.key;
        ssl_session_tickets on;
"""


def make_certificates(directory, kind):
    """Writes ca.pem, a throw-away authority, and leaf.pem with leaf.key, issued by it for CERTIFIED_HOST."""
    authority, leaf = directory / "ca.pem", directory / "leaf.pem"
    common = ["openssl", "req", "-x509", "-sha256", "-days", "30", "-nodes", *_KEYS[kind]]
    issued = ["-CA", str(authority), "-CAkey", str(directory / "ca.key"),
              "-addext", f"subjectAltName=IP:{CERTIFIED_HOST}", "-addext", "basicConstraints=critical,CA:FALSE",
              "-addext", "extendedKeyUsage=serverAuth"]
    for arguments in (
        ["-subj", "/CN=bench authority", "-keyout", str(directory / "ca.key"), "-out", str(authority)],
        ["-subj", "/CN=bench site", "-keyout", str(directory / "leaf.key"), "-out", str(leaf), *issued],
    ):
        subprocess.run(common + arguments, check=True, capture_output=True)
    return authority


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(process, port):
    """Whether it came to take connections; False if it ended before."""
    for _ in range(1000):
        if process.poll() is not None:
            return False
        with socket.socket() as probe:
            if probe.connect_ex((CERTIFIED_HOST, port)) == 0:
                return True
        time.sleep(0.01)
    return False


def start_nginx(directory, tls=None, log=False):
    """Starts nginx on a free port; `tls` is None, 'ecdsa' or 'rsa'. Its files are in `directory`, which stays.

    Gives the process, its port and the file of the authority to trust (None without TLS). With `log` every request is
    a line of ACCESS_LOG: its status, and "r" if its TLS session was resumed, else ".".
    """
    directory = pathlib.Path(directory).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    ca_file = make_certificates(directory, tls) if tls else None
    site = f"location / {{ return 200 '{'x' * PAGE_BYTES}'; }}"
    process, port = _launch(directory, tls is not None, site, f"{directory}/{ACCESS_LOG} resumed" if log else "off")
    return process, port, ca_file


def start_nginx_server(directory, tls, wrap=lambda command: command):
    """Starts nginx as a server to be measured: /13 and /16384 are so many bytes; with `tls` by the leaf in `directory`.

    `wrap` may put another program before its command. Gives the process and its port.
    """
    directory = pathlib.Path(directory).resolve()
    (directory / "16384").write_text("x" * 16384)
    return _launch(directory, tls, _SERVED_SITE.format(directory=directory), "off", wrap)


def _launch(directory, tls, site, log, wrap=lambda command: command):
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise RuntimeError("nginx is not installed")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    for _ in range(5):  # somebody may take the port before nginx does
        port = free_port()
        options = "ssl backlog=4096" if tls else "backlog=4096"
        configuration = directory / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(
            directory=directory,
            log=log,
            temporary="\n    ".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds),
            listen="\n        ".join(f"listen {host}:{port} {options};" for host in (CERTIFIED_HOST, UNCERTIFIED_HOST)),
            tls=_TLS.format(directory=directory) if tls else "",
            site=site,
        ))
        command = [program, "-p", str(directory), "-e", f"{directory}/error.log", "-c", str(configuration)]
        process = subprocess.Popen(wrap(command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if _answers(process, port):
            return process, port
        process.kill()
        process.wait()
    log_text = directory / "error.log"
    said = log_text.read_text(errors="replace")[-2000:] if log_text.exists() else ""
    raise RuntimeError(f"nginx does not start: {said}")
