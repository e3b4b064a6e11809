"""Raw runs, and the table made from them."""

import json
from statistics import median

from .bench import noisy
from .servers import ALL, FTPS, HTTPS, OURS

# Medians of runs that lie further apart than this are marked.
SPREAD_MAX = 0.15
# A load that used so much of its processor may have been what was slowest.
LOAD_FULL = 0.9


def read(file):
    """(sittings, runs) of an earlier report, if there is one."""
    if not file.exists():
        return [], []
    found = json.loads(file.read_text())
    return found["sittings"], found["runs"]


def write(directory, sittings, runs, rows):
    """Writes peers.json, one line a run, and peers.md."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(_short(run), ensure_ascii=False) for run in runs)
    text = f'{{"sittings": {json.dumps(sittings, indent=1, ensure_ascii=False)},\n"runs": [\n{lines}\n]}}\n'
    _replace(directory / "peers.json", text)
    _replace(directory / "peers.md", markdown(sittings, runs, rows))


def _short(value):
    """The same with numbers of six digits, which is more than anybody can measure."""
    if isinstance(value, dict):
        return {name: _short(inner) for name, inner in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _replace(file, text):
    part = file.with_suffix(".part")
    part.write_text(text)
    part.rename(file)


def kept(runs, row, server):
    """Of each round the quietest run that did not fail; or, where all failed, nothing."""
    rounds = {}
    for run in runs:
        if run["row"] == row.name and run["server"] == server and not run.get("failed"):
            rounds.setdefault((run["sitting"], run["round"]), []).append(run)
    return [
        min(attempts, key=lambda run: (bool(run.get("errors")), run["others"] + run["stolen"])) for attempts in rounds.values()
    ]


class Cell:
    """The median of one metric of one server."""

    def __init__(self, runs, metric):
        values = [run[metric] for run in runs if run.get(metric) is not None]
        self.value = median(values) if values else None
        self.wide = bool(values) and max(values) - min(values) > SPREAD_MAX * abs(self.value)
        self.bound = metric == "rate" and any(run.get("load_cores", 0) > LOAD_FULL for run in runs)
        self.errors = any(run.get("errors") for run in runs)
        self.noisy = any(noisy(run) for run in runs)

    def text(self, best):
        """The cell, with its ratio to the best peer."""
        if self.value is None:
            return "–"
        marks = ("≥" if self.bound else "") + ("~" if self.wide else "")
        ratio = f" ({self.value / best:.2f})" if best else ""
        return f"{marks}{number(self.value)}{ratio}" + ("!" if self.errors else "") + ("?" if self.noisy else "")


def number(value):
    """Three digits that count, or all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def compare(row, runs):
    """For each metric: its name, unit, cells, the best peer, and what is wanted: (ratio, reached) or nothing."""
    measured = {server: kept(runs, row, server) for server in ALL}
    for metric, unit, more in row.metrics:
        cells = {server: Cell(measured[server], metric) for server in ALL}
        # A peer that makes errors is no measure.
        sound = [server for server in FTPS if cells[server].value is not None and not cells[server].errors]
        peers = {server: cells[server].value for server in sound}
        best = (max if more else min)(peers, key=peers.get) if peers else None
        wanted, check = row.wanted.get(metric), ""
        if wanted is not None and best and cells[OURS].value is not None:
            ratio = cells[OURS].value / peers[best]
            check = "ahead" if (ratio >= wanted if more else ratio <= wanted) else "behind"
            check = "errors" if cells[OURS].errors else check
        yield metric, unit, more, cells, best, wanted, check


def table(runs, rows):
    """The table of all rows that were measured."""
    servers = [server for server in ALL if any(run["server"] == server for run in runs)]
    lines = [
        f"| workload | metric | {' | '.join(servers)} | best peer | wanted | check |",
        f"|---|---|{'---:|' * len(servers)}---|---:|---|",
    ]
    for row in rows:
        if not any(run["row"] == row.name for run in runs):
            continue
        title = f"{row.title} (`{row.name}`)"
        for metric, unit, more, cells, best, wanted, check in compare(row, runs):
            value = cells[best].value if best else None
            texts = [cells[server].text(value) for server in servers]
            if all(text == "–" for text in texts) and metric != "rate":
                continue
            bar = "" if wanted is None else f"{'≥' if more else '≤'} {wanted:g}"
            mark = check if check in ("", "ahead") else f"**{check}**"
            lines.append(f"| {title} | {unit} | {' | '.join(texts)} | {best or ''} | {bar} | {mark} |")
            title = ""
    return "\n".join(lines)


def markdown(sittings, runs, rows):
    """The whole report."""
    done = [row for row in rows if any(run["row"] == row.name for run in runs)]
    parts = ["# ringftpd and its peers", _summary(done, runs), _how(sittings), table(runs, rows), _marks(done, runs)]
    parts += ["## Load", _loads(done, runs)]
    for sitting in sittings:
        parts.append(_sitting(sitting, [row.name for row in done if _in(runs, row, sitting)]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _in(runs, row, sitting):
    return any(run["row"] == row.name and run["sitting"] == sitting["began"] for run in runs)


def _summary(rows, runs):
    checks = [(check, f"`{row.name}` {metric}") for row in rows for metric, *_, check in compare(row, runs) if check]
    behind = [name for check, name in checks if check != "ahead"]
    text = f"ringftpd reaches {len(checks) - len(behind)} of {len(checks)} bars."
    return text + (f" Not reached: {', '.join(behind)}." if behind else "")


def _how(sittings):
    last = sittings[-1]
    server, load = last["cores"]
    return (
        f"Server on processor {server}, load on processor {load}, over loopback, files on a tmpfs, certificate ECDSA P-256,"
        f" PROT P with TLS 1.3 (unftp: 1.2) unless said. Medians of rounds in which the servers"
        " take turns. In brackets the ratio to the best FTPS peer (nginx is not one). CPU is that of the server's control"
        " group, children and kernel threads of its own included. `benches/peers/README.md` says how it is done."
    )


def _marks(rows, runs):
    marks = [
        f"~ runs more than {SPREAD_MAX:.0%} apart; ≥ the load used over {LOAD_FULL:.0%} of its processor, so the server may do"
        " better; ! there were errors; ? others used the processors in every attempt; – not measured."
    ]
    for row in rows:
        for server, reason in row.without.items():
            marks.append(f"`{row.name}`: {server} {reason}.")
        for server in ALL:
            failed = [run for run in runs if run["row"] == row.name and run["server"] == server and run.get("failed")]
            if failed:
                what = "failed" if not kept(runs, row, server) else "failed once or more"
                marks.append(f"`{row.name}`: {server} {what}: {failed[0]['failed']}")
            errors = [run["errors"] for run in kept(runs, row, server) if run.get("errors")]
            if errors:
                marks.append(f"`{row.name}`: {server} had errors: {json.dumps(errors[0], ensure_ascii=False)}")
    return "\n".join(f"- {mark}" for mark in marks)


def _loads(rows, runs):
    lines = []
    for row in rows:
        for server in (OURS, HTTPS):
            run = next((run for run in runs if run["row"] == row.name and run["server"] == server and "command" in run), None)
            if run:
                lines.append(f"# {row.name}{', nginx' if server == HTTPS else ''}\n{run['command']}")
    return "```\n" + "\n".join(lines) + "\n```"


def _sitting(sitting, rows):
    lines = [f"## {sitting['began'].replace('T', ' ')}", f"`{sitting['command']}`, rows {', '.join(rows)}."]
    lines[-1] += f" {sitting['rounds']} rounds of about {sitting['seconds']} s."
    lines.append("\n".join(["| | |", "|---|---|"] + [f"| {name} | {value} |" for name, value in sitting["machine"].items()]))
    lines.append(
        "\n".join(
            ["| server | version |", "|---|---|"] + [f"| {name} | {value} |" for name, value in sitting["versions"].items()]
        )
    )
    commands = "\n".join(f"# {name}\n{command}" for name, command in sitting["commands"].items())
    lines.append(f"Servers (with configurations by `benches/peers/servers`):\n\n```\n{commands}\n```")
    return "\n\n".join(lines)
