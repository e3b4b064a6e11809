"""One measurement: a server, a row, a fresh control group."""

import dataclasses
import shlex
import sys
import time
from datetime import datetime
from pathlib import Path

from .load import Load
from .machine import Processors
from .servers import EXPLICIT, HTTPS, OURS, PROJECT, Failed, Server, peers_directory

# Others may take so much of the two processors, and the hypervisor so much, before a run is done again.
OTHERS_MAX, STOLEN_MAX = 0.3, 0.1
# Memory of control groups is counted in batches that are flushed every two seconds.
SETTLE_SECONDS = 3
# How long idle sessions are held: longer than it takes to see that all are there.
HOLD_SECONDS = 15
IDLE_WARM_UP = 16
WARM_UP_SECONDS = 1


class Bench:
    """Measures rows."""

    def __init__(self, files, programs, cores, seconds, attempts):
        self.files, self.programs = files, programs
        self.server_core, self.load_core = cores
        self.load = Load(programs / "ringftpd-load", self.load_core, files.base)
        self.seconds, self.attempts_max = seconds, attempts
        self.commands = {}

    def attempts(self, row, name):
        """Measures until the machine was quiet, a few times at most. Yields every attempt; the last one need not be the best."""
        for attempt in range(1, self.attempts_max + 1):
            run = {"row": row.name, "server": name, "attempt": attempt, "at": datetime.now().isoformat(timespec="seconds")}
            try:
                run |= self._once(row, name)
            except Failed as failure:
                run["failed"] = str(failure)
            yield self.shown(run)
            if run.get("failed") or not noisy(run):
                return

    def _once(self, row, name):
        server = Server(name, self.files, self.server_core, self.programs / OURS)
        try:
            self.commands.setdefault(name, self.shown(server.command()))
            run = self._idle(row, server) if row.workload == "idle" else self._work(row, server)
            server.check()
            return run
        finally:
            server.stop()
            self.files.forget_uploads()

    def _work(self, row, server):
        """A warm-up tells how many operations fill the time; then exactly those are done, so that nothing is cut off, and all CPU
        time between the two readings belongs to them and to opening their sessions, which is measured alone and subtracted."""
        warm = self.load.run(row, server.name, ("duration", WARM_UP_SECONDS), row.limit)
        by_time = server.name == HTTPS and not row.size
        extent = ("duration", self.seconds) if by_time else ("count", self._count(row, warm))
        self.files.forget_uploads()
        opening = 0.0 if server.name == HTTPS or row.workload == "login" else self._opening(row, server)
        with self.load.start(row, server.name, extent, row.limit + 4 * self.seconds) as running:
            processors = Processors({self.server_core, self.load_core})
            began, before = time.monotonic(), server.group.cpu_seconds()
            load_before = running.group.cpu_seconds()
            found = running.result()
            server_seconds = server.group.cpu_seconds() - before
            elapsed, (busy, stolen) = time.monotonic() - began, processors.since()
            load_seconds = running.load_seconds - load_before
        if not found["operations"]:
            raise Failed(f"not one operation was done: {found.get('errors')}")
        of = found["octets"] if row.size else found["operations"]
        return found | {
            "command": shlex.join(map(str, running.command)),
            "rate": of / found["seconds"] / (1e6 if row.size else 1),
            "cpu": (server_seconds - opening) / of * (1e9 if row.size else 1e6),
            "opening_seconds": opening,
            "server_cores": server_seconds / elapsed,
            "load_cores": load_seconds / elapsed,
            "others": max(0.0, busy - server_seconds - load_seconds) / elapsed,
            "stolen": stolen / elapsed,
        }

    def _opening(self, row, server):
        """CPU time of opening and closing the sessions of a row."""
        before = server.group.cpu_seconds()
        self.load.run(as_idle(row, row.sessions), server.name, ("hold", 0), row.limit)
        return server.group.cpu_seconds() - before

    def _count(self, row, warm):
        done = warm["octets"] / row.size if row.size else warm["operations"]
        if not done:
            raise Failed(f"nothing was done in the warm-up: {warm.get('errors')}")
        turns = round(done / warm["seconds"] * self.seconds / row.sessions)
        return max(1, turns) * row.sessions

    def _idle(self, row, server):
        """Growth of memory while sessions are held, against what it was after a few had come and gone."""
        self.load.run(as_idle(row, IDLE_WARM_UP), server.name, ("hold", 1), row.limit)
        self._until(lambda: established() == 0, row.limit)
        time.sleep(SETTLE_SECONDS)
        before, before_proportional = server.group.memory_octets(), server.group.proportional_octets()
        with self.load.start(row, server.name, ("hold", HOLD_SECONDS), row.limit) as running:
            self._until(lambda: established() >= row.sessions or running.ended(), row.limit)
            self._until(lambda: quiet(server.group) or running.ended(), row.limit)
            time.sleep(SETTLE_SECONDS)
            after, after_proportional = server.group.memory_octets(), server.group.proportional_octets()
            held = established()
            if running.ended() or held < row.sessions:
                raise Failed(f"only {held} of {row.sessions} sessions were there when memory was read")
            found = running.result()
        each = 1024 * row.sessions
        return found | {
            "command": shlex.join(map(str, running.command)),
            "rss": (after[0] - before[0]) / each,
            "kernel": (after[1] - before[1]) / each,
            "proportional": (after_proportional - before_proportional) / each,
            "others": 0.0,
            "stolen": 0.0,
        }

    @staticmethod
    def _until(condition, limit):
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end:
                raise Failed("the sessions did not come and go in time")
            time.sleep(0.1)

    def shown(self, value):
        """The same without the directories of this machine."""
        if isinstance(value, dict):
            return {name: self.shown(inner) for name, inner in value.items()}
        if not isinstance(value, str):
            return value
        places = {
            sys.executable: "python3",
            f"{self.programs}/": "",
            f"{PROJECT}/": "",
            str(self.programs): "DIRECTORY",
            str(self.files.base): "DIR",
            str(peers_directory()): "PEERS",
        }
        for place, word in places.items():
            value = value.replace(place, word)
        return value


def as_idle(row, sessions):
    """The same sessions, or fewer, without work."""
    suite = f" --suite {row.suite}" if row.suite else ""
    return dataclasses.replace(row, load=f"idle --sessions {sessions}{suite}")


def noisy(run):
    """Whether something else than server and load used their processors."""
    return run["others"] > OTHERS_MAX or run["stolen"] > STOLEN_MAX


def quiet(group):
    """Whether a server does nothing much."""
    before = group.cpu_seconds()
    time.sleep(0.5)
    return group.cpu_seconds() - before < 0.05


def established():
    """Connections that the server's port has."""
    port = f":{EXPLICIT:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return sum(1 for line in lines if line.split()[1].endswith(port) and line.split()[3] == "01")
