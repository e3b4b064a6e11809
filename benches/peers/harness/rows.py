"""The table of workloads, rows.toml."""

import shlex
import tomllib
from dataclasses import dataclass, field

from .servers import ALL, HERE, HTTPS

# Metrics of a row by what it measures: name, unit in the table, whether more is better.
THROUGHPUT = (("rate", "MB/s", True), ("cpu", "server CPU s/GB", False))
OPERATIONS = (
    ("rate", "per second", True),
    ("cpu", "server CPU µs each", False),
    ("p50", "p50 µs", False),
    ("p99", "p99 µs", False),
)
MEMORY = (("rss", "RSS KB a session", False), ("kernel", "kernel KB a session", False), ("open", "seconds to open all", False))


@dataclass(frozen=True)
class Row:
    """One workload."""

    name: str
    title: str
    load: str
    size: int = 0
    https: str = ""
    limit: int = 120
    without: dict = field(default_factory=dict)
    wanted: dict = field(default_factory=dict)

    @property
    def words(self):
        """Words for ringftpd-load."""
        return shlex.split(self.load)

    @property
    def workload(self):
        """The first of them."""
        return self.words[0]

    @property
    def sessions(self):
        """How many sessions it has."""
        return int(self.words[self.words.index("--sessions") + 1])

    @property
    def suite(self):
        """The cipher, where data connections are protected."""
        return self.words[self.words.index("--suite") + 1] if "--suite" in self.words else None

    @property
    def metrics(self):
        """What is measured."""
        return MEMORY if self.workload == "idle" else THROUGHPUT if self.size else OPERATIONS

    def takes(self, server):
        """Whether a server takes part."""
        return server not in self.without and (server != HTTPS or bool(self.https))


def read():
    """All rows, in their order."""
    rows = [Row(**row) for row in tomllib.loads((HERE / "rows.toml").read_text())["row"]]
    for row in rows:
        unknown = {*row.wanted} - {name for name, *_ in row.metrics} or {*row.without} - {*ALL}
        if unknown:
            raise SystemExit(f"rows.toml: {row.name}: {', '.join(unknown)}?")
    return rows
