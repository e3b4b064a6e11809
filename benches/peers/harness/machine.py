"""What the machine is, and how busy others keep it."""

import mmap
import os
import platform
import re
import subprocess
from pathlib import Path

from .servers import HERE, peers_directory


class Processors:
    """Time of some processors since this was made, by what they did."""

    def __init__(self, processors):
        self.names = {f"cpu{processor}" for processor in processors}
        self.busy, self.stolen = self._read()

    def _read(self):
        busy = stolen = 0
        for line in Path("/proc/stat").read_text().splitlines():
            name, *ticks = line.split()
            if name in self.names:
                user, nice, system, _idle, _wait, interrupt, soft, steal, *_ = map(int, ticks)
                busy += user + nice + system + interrupt + soft
                stolen += steal
        tick = os.sysconf("SC_CLK_TCK")
        return busy / tick, stolen / tick

    def since(self):
        """(busy, stolen) seconds, all of them together."""
        busy, stolen = self._read()
        return busy - self.busy, stolen - self.stolen


class FreePages:
    """Keeps a virtual machine's kernel from giving free memory back to the hypervisor while it lives (free page reporting). Each
    page of an upload would have to come from there again, which takes longer than all that a server does, and differs from run to
    run. What a run that was killed has left is put right by the next one."""

    ORDER = Path("/sys/module/page_reporting/parameters/page_reporting_order")
    # No block of free memory is as large.
    NEVER = "11"
    KEPT = Path("/run/ringftpd-peers.page_reporting_order")
    # What the system may need meanwhile.
    LEFT_OCTETS = 3 << 30

    def __init__(self):
        if not self.ORDER.exists():
            return
        if not self.KEPT.exists():
            self.KEPT.write_text(self.ORDER.read_text())
        self.ORDER.write_text(self.NEVER)
        # Have it all once, so that what was given back before is here.
        available = int(_field("/proc/meminfo", "MemAvailable").split()[0]) * 1024
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        mmap.mmap(-1, max(available - self.LEFT_OCTETS, mmap.PAGESIZE), flags=flags).close()

    @classmethod
    def sweep(cls):
        """As it was before."""
        if cls.KEPT.exists():
            cls.ORDER.write_text(cls.KEPT.read_text())
            cls.KEPT.unlink()


def said(*words):
    """The first line that a program prints, or nothing."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False, cwd=HERE)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip().split("\n")[0]


def _field(file, name):
    found = re.search(rf"^{re.escape(name)}\s*:\s*(.*)$", Path(file).read_text(), re.MULTILINE)
    return found.group(1) if found else "?"


def facts():
    """The machine, as lines for the report."""
    flags = set(_field("/proc/cpuinfo", "flags").split())
    special = [flag for flag in ("aes", "vaes", "avx512f", "vpclmulqdq", "sha_ni") if flag in flags]
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "processor": f"{_field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} processors, {' '.join(special)}"
        + (", virtual machine" if "hypervisor" in flags else "")
        + (f", governor {governor.read_text().strip()}" if governor.exists() else ""),
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / (1 << 20):.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "free page reporting": "paused" if FreePages.KEPT.exists() else "none",
        "kernel TLS": "loaded" if Path("/proc/net/tls_stat").exists() else "no",
        "system": _system(),
    }


def _system():
    names = re.search(r'^PRETTY_NAME="(.*)"$', Path("/etc/os-release").read_text(), re.MULTILINE)
    return names.group(1) if names else "?"


def versions(servers, program):
    """Of the servers and clients in the run."""
    commit = said("git", "describe", "--always", "--dirty")
    found = {"ringftpd": f"{said(program, '--version')} ({commit}), {said('rustc', '--version')}"}
    for server in servers:
        file = peers_directory() / server / "versions"
        if file.exists():
            found[server] = ", ".join(file.read_text().splitlines())
    library = said("dpkg-query", "--show", "--showformat=${Version}", "libssl3")
    if library:
        found["OpenSSL of Debian's servers"] = library
    if "nginx" in servers:
        found["nginx's clients"] = ", ".join(" ".join(said(client, "--version").split()[:2]) for client in ("curl", "wrk"))
    return found
