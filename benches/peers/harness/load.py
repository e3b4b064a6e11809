"""Load on a running server: ringftpd-load, or nginx's clients. Each run is one process tree in a control group of its own."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

from . import https
from .cgroup import Group
from .servers import EXPLICIT, HTTPS, PASSWORD, TLS_1_2, USER, Failed

# Where an operation of each workload is timed in ringftpd-load's JSON.
PHASES = {"small": "transfer", "list": "transfer", "get": "transfer", "put": "transfer", "login": "session", "noop": "command"}


class Load:
    """Clients on one core."""

    def __init__(self, program, core, scratch):
        self.program = program
        self.core = core
        self.scratch = Path(scratch)

    def run(self, row, server, extent, limit):
        """Runs a row's workload for `extent` = ("duration", seconds) or ("count", operations); see `start`."""
        with self.start(row, server, extent, limit) as running:
            return running.result()

    def start(self, row, server, extent, limit):
        """Starts it, as a context that ends it."""
        result = self.scratch / "load.json"
        result.unlink(missing_ok=True)
        command = self._https(row, extent) if server == HTTPS else self._ftps(row, server, extent, result)
        return Running(command, self.core, row, result, limit)

    def _ftps(self, row, server, extent, result):
        name, value = extent
        version = "1.2" if server in TLS_1_2 else "1.3"
        command = [self.program, *row.words, "--server", f"127.0.0.1:{EXPLICIT}", "--user", USER, "--password", PASSWORD]
        command += ["--insecure", "--tls", version, "--cores", str(self.core), f"--{name}", str(value)]
        return [*map(str, command), "--quiet", "--json", str(result)]

    def _https(self, row, extent):
        name, value = extent
        words, origin = row.https.split(), f"https://127.0.0.1:{EXPLICIT}"
        if words[0] == "get":
            # A pattern of curl's stands for as many files as there are sessions.
            times = max(1, value // row.sessions) if name == "count" else 1
            return https.curl(origin, words[1], row.suite, times, row.sessions)
        if words[0] == "idle":
            return [sys.executable, https.__file__, "127.0.0.1", str(EXPLICIT), words[1], str(row.sessions), str(value)]
        # wrk knows durations only.
        seconds = value if name == "duration" else max(1, round(value))
        return https.wrk(origin, words, row.sessions, seconds, self.scratch / "wrk.lua")


class Running:
    """A client at work."""

    def __init__(self, command, core, row, file, limit):
        self.command, self.row, self.file = command, row, file
        self.group = Group("load")
        self.began = time.monotonic()
        self.deadline = self.began + limit
        self.output = file.with_name("load.out").open("w+")
        self.messages = file.with_name("load.err").open("w+")
        self.process = None
        self.load_seconds = 0.0
        try:
            self.process = subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=self.messages,
                preexec_fn=self.group.enter,
                start_new_session=True,
            )
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.group.remove()
        if self.process:
            self.process.wait()
        self.output.close()
        self.messages.close()

    def ended(self):
        """Whether it has."""
        if time.monotonic() > self.deadline:
            raise Failed(f"{self.command[0]} took longer than the limit of the row")
        return self.process.poll() is not None

    def result(self):
        """Waits for it; what it measured: seconds, operations, octets, p50 and p99 in µs, errors by kind, and its own JSON."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, self.deadline - time.monotonic()))
        if not self.ended():
            raise Failed(f"{self.command[0]} took longer than the limit of the row")
        seconds = time.monotonic() - self.began
        self.load_seconds = self.group.cpu_seconds()
        for file in (self.output, self.messages):
            file.seek(0)
        said = self.output.read()
        if self.command[0] == "curl" and self.process.returncode == 0:
            return https.curl_result(said, seconds)
        if self.command[0] == "wrk" and self.process.returncode == 0:
            return https.wrk_result(said, self.row.https.split()[0])
        if self.command[0] == sys.executable and self.process.returncode == 0:
            return json.loads(said)
        # ringftpd-load ends with another status than 0 when there were errors; then it has written them, too.
        if not self.file.exists():
            message = self.messages.read().strip()[-300:]
            raise Failed(f"{Path(self.command[0]).name} ended with status {self.process.returncode}: {message}")
        return ftps_result(json.loads(self.file.read_text()), self.row.workload)


def ftps_result(found, workload):
    """What ringftpd-load's JSON says, in the words of this harness. What the command line says is left out, and the series."""
    settings = ("format", "version", "kernel", "workload", "settings", "series", "seconds", "operations", "octets", "errors")
    phase = found["phases"].get(PHASES.get(workload), {})
    return {
        "seconds": found["seconds"],
        "operations": found["operations"],
        "octets": found["octets"],
        "p50": phase.get("p50_us"),
        "p99": phase.get("p99_us"),
        "open": found["open_seconds"],
        "errors": found["errors"],
        "load": {name: value for name, value in found.items() if name not in settings},
    }
