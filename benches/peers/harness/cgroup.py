"""Control groups, version 1 or 2: what a server with all its children costs."""

import contextlib
import os
import signal
import time
from pathlib import Path

PREFIX = "ringftpd-peers"


class Unusable(Exception):
    """This machine's control groups do not count what is needed."""


def _mounts():
    """(type, directory, options) of each mounted hierarchy."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, directory, kind, options, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            yield kind, Path(directory), options.split(",")


def _hierarchies():
    """The version, and the directories below which groups are made: for version 1 those of `cpuacct` and `memory`."""
    first = {
        controller: directory
        for kind, directory, options in _mounts()
        if kind == "cgroup"
        for controller in ("cpuacct", "memory")
        if controller in options
    }
    if len(first) == 2:
        return 1, first["cpuacct"], first["memory"]
    for kind, directory, _ in _mounts():
        if kind == "cgroup2" and "memory" in (directory / "cgroup.controllers").read_text().split():
            enabled = directory / "cgroup.subtree_control"
            if "memory" not in enabled.read_text().split():
                enabled.write_text("+memory")
            return 2, directory, directory
    raise Unusable("neither the controllers cpuacct and memory (version 1) nor memory (version 2) are mounted")


def _table(file):
    """A file of lines "name number"."""
    return {name: int(value) for name, value in (line.split() for line in file.read_text().splitlines())}


class Group:
    """A control group of this process's making."""

    def __init__(self, name):
        self.version, cpu, memory = _hierarchies()
        self.cpu = cpu / f"{PREFIX}.{os.getpid()}.{name}"
        self.memory = memory / self.cpu.name
        for directory in {self.cpu, self.memory}:
            directory.mkdir()

    def enter(self):
        """Moves the process that calls this here, with what it starts from now on."""
        for directory in {self.cpu, self.memory}:
            (directory / "cgroup.procs").write_text("0")

    def cpu_seconds(self):
        """CPU time of all that were ever in it."""
        if self.version == 1:
            return int((self.cpu / "cpuacct.usage").read_text()) / 1e9
        return _table(self.cpu / "cpu.stat")["usage_usec"] / 1e6

    def memory_octets(self):
        """(resident, kernel): anonymous pages of all its processes, each counted once however many share it, and what the
        kernel has allocated for them: stacks, page tables, descriptors, sockets, rings."""
        table = _table(self.memory / "memory.stat")
        if self.version == 1:
            return table["total_rss"], int((self.memory / "memory.kmem.usage_in_bytes").read_text())
        parts = ("kernel_stack", "pagetables", "percpu", "slab")
        return table["anon"], table.get("kernel", sum(table.get(part, 0) for part in parts))

    def processes(self):
        """Their ids."""
        return [int(line) for line in (self.cpu / "cgroup.procs").read_text().split()]

    def proportional_octets(self):
        """Sum of what /proc calls Pss, files included: a cross-check of `memory_octets`."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total

    def remove(self):
        """Kills what is in it and removes it."""
        _remove({self.cpu, self.memory})


def _remove(directories):
    for _ in range(100):
        left = False
        for directory in directories:
            if not directory.exists():
                continue
            for process in (directory / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            try:
                directory.rmdir()
            except OSError:
                left = True
        if not left:
            return
        time.sleep(0.1)
    raise Unusable(f"processes of {', '.join(map(str, directories))} do not end")


def sweep():
    """Removes the groups of runs that were killed."""
    _, cpu, memory = _hierarchies()
    for directory in {*cpu.glob(f"{PREFIX}.*"), *memory.glob(f"{PREFIX}.*")}:
        if not Path("/proc", directory.name.split(".")[1]).exists():
            _remove({directory})
