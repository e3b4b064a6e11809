"""What all servers serve: a tmpfs with the files of the rows, and a certificate."""

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

MARK = "ringftpd-peers."
# vsftpd wants an account whose home directory exists.
ACCOUNT = "daemon"
MEBIBYTE = 1 << 20
# 3 GiB of files, 2 GiB of uploads that stay, 2 GiB of those under way, and room.
TMPFS_OCTETS = 8 << 30
# 2 GiB of uploads that stay, 2 GiB of those under way.
LARGE_OCTETS = 4 << 30


def _fill(path, octets):
    """Writes octets that no cipher, file system or client can make anything of. The same block again and again will do."""
    block = os.urandom(min(octets, MEBIBYTE))
    with path.open("wb") as file:
        for _ in range(octets // len(block)):
            file.write(block)


def _mount(directory, options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)


def _available():
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


class Files:
    """A directory `base` with `served`, `cert` and `key`; and `work` for the servers' own files."""

    def __init__(self):
        if _available() < TMPFS_OCTETS:
            raise SystemExit("benches/peers/run: not enough memory for the files: 8 GiB must be available")
        self.base = Path(tempfile.mkdtemp(prefix=MARK))
        # Servers come here under accounts of their own.
        self.base.chmod(0o755)
        (self.base / "owner").write_text(str(os.getpid()))
        self.served = self.base / "served"
        self.cert, self.key = self.base / "cert.pem", self.base / "key.pem"
        try:
            self._make()
        except BaseException:
            self.remove()
            raise

    def _make(self):
        self.served.mkdir()
        _mount(self.served, f"size={TMPFS_OCTETS},mode=755")
        for name, files, octets in (
            ("big", [1], 1024 * MEBIBYTE),
            ("eight", range(1, 9), 256 * MEBIBYTE),
            ("1k", range(1000), 1024),
            ("100k", range(200), 100 * 1024),
            ("10000", (f"file-{number:05}.dat" for number in range(10_000)), 0),
            ("upload", [], 0),
            ("large", [], 0),
        ):
            (self.served / name).mkdir()
            for file in files:
                _fill(self.served / name / str(file), octets) if octets else (self.served / name / file).touch()
        _mount(self.served / "large", f"size={LARGE_OCTETS},mode=755,huge=always")
        subprocess.run(["chown", "-R", f"{ACCOUNT}:", self.served], check=True)
        subprocess.run(
            shlex.split("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost")
            + ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", self.key, "-out", self.cert],
            check=True,
            capture_output=True,
        )

    def work(self):
        """An empty scratch directory for a server."""
        work = self.base / "scratch"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        return work

    def forget_uploads(self):
        """Removes what was uploaded and left."""
        for directory in ("upload", "large"):
            for file in (self.served / directory).iterdir():
                file.unlink()

    def remove(self):
        """Unmounts and removes everything."""
        _remove(self.base)


def _remove(base):
    served = base / "served"
    if os.path.ismount(served):
        subprocess.run(["umount", "--lazy", served], check=True)
    shutil.rmtree(base)


def sweep():
    """Removes what runs that were killed have left."""
    for base in Path(tempfile.gettempdir()).glob(f"{MARK}*"):
        with contextlib.suppress(OSError):
            if not Path("/proc", (base / "owner").read_text()).exists():
                _remove(base)
