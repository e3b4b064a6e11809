"""The servers: how they are started in a control group on one core, and stopped."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from .cgroup import PREFIX, Group

HERE = Path(__file__).resolve().parent.parent
PROJECT = HERE.parent.parent
PAM = Path("/etc/pam.d")
USER, PASSWORD = "tester", "test-pass"
# Below the ports that Linux gives to connecting sockets, so that nobody takes one away.
EXPLICIT, IMPLICIT = 12121, 12990
PASSIVE_MIN, PASSIVE_MAX = 20000, 31999
START_SECONDS_MAX = 20

OURS = "ringftpd"
# Peers in the sense of the ratios.
FTPS = ("vsftpd", "proftpd", "pure-ftpd", "pyftpdlib", "unftp")
HTTPS = "nginx"
ALL = (OURS, *FTPS, HTTPS)
WITHOUT_IMPLICIT = ("pure-ftpd", "unftp", HTTPS)
# It speaks TLS 1.2 only.
TLS_1_2 = ("unftp",)


class Failed(Exception):
    """A server or its client did not do what it was asked for."""


def peers_directory():
    """Where `install` puts servers."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("RINGFTPD_PEERS") or Path(cache) / "ringftpd-peers")


def _tag(process):
    return f"{PREFIX}.{process}"


class Server:
    """One server, running."""

    def __init__(self, name, files, core, program):
        self.name = name
        self.group = Group("server")
        self.work = files.work()
        self.output = files.base / "server.log"
        environment = {
            **os.environ,
            "PEER_ROOT": str(files.served),
            "PEER_WORK": str(self.work),
            "PEER_EXPLICIT": str(EXPLICIT),
            "PEER_IMPLICIT": str(IMPLICIT),
            "PEER_CERT": str(files.cert),
            "PEER_KEY": str(files.key),
            "PEER_USER": USER,
            "PEER_PASSWORD": PASSWORD,
            "PEER_PASSIVE_MIN": str(PASSIVE_MIN),
            "PEER_PASSIVE_MAX": str(PASSIVE_MAX),
            "PEER_TAG": _tag(os.getpid()),
            "RINGFTPD_PEERS": str(peers_directory()),
            "RINGFTPD": str(program),
        }
        self.process = None
        try:
            with self.output.open("wb") as output:
                self.process = subprocess.Popen(
                    ["taskset", "--cpu-list", str(core), HERE / "servers" / name],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    preexec_fn=self.group.enter,
                    start_new_session=True,
                )
            self._wait(EXPLICIT)
            if name not in WITHOUT_IMPLICIT:
                self._wait(IMPLICIT)
        except BaseException:
            self.stop()
            raise

    def _wait(self, port):
        end = time.monotonic() + START_SECONDS_MAX
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            if self.process.poll() is not None or time.monotonic() > end:
                raise Failed(f"{self.name} does not serve port {port}: {self.said()}")
            time.sleep(0.05)

    def command(self):
        """What its start script has noted."""
        return (self.work / "command").read_text().strip()

    def said(self):
        """The end of its output."""
        return self.output.read_text(errors="replace")[-500:].strip() or "it says nothing"

    def check(self):
        """Fails if it has ended."""
        if self.process.poll() is not None:
            raise Failed(f"{self.name} has ended with status {self.process.returncode}: {self.said()}")

    def stop(self):
        """Ends it with all its processes, and removes what it left outside of its scratch directory."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
        self.group.remove()
        if self.process:
            self.process.wait()
        (PAM / _tag(os.getpid())).unlink(missing_ok=True)


def ports_are_free():
    """Fails when somebody else has one of the ports."""
    for port in (EXPLICIT, IMPLICIT):
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind(("127.0.0.1", port))
            except OSError as error:
                raise SystemExit(f"benches/peers/run: port {port}: {error.strerror}; end what has it") from error


def sweep():
    """Removes the PAM services of runs that were killed."""
    for file in PAM.glob(f"{PREFIX}.*"):
        if not Path("/proc", file.name.split(".")[1]).exists():
            file.unlink()
