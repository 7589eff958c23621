"""What each machine's student is worth, the worst first: a table for the terminal, and a page."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from edgekd.evaluation.judgement import CHANCE, FEW, GOOD
from edgekd.evaluation.words import MANY_A_DAY
from edgekd.fleet.site import DRIFT, Site
from edgekd.report.page import POLICY, hashes
from edgekd.runtime.json_fields import shown

ROWS = 40
"""Machines that the table of the terminal shows; the page shows all."""
NAME = 16
"""Characters of a machine's name in a table of 80 columns."""


@dataclass(frozen=True)
class Row:
    """One machine."""

    name: str
    state: str
    """"failed", "moved", "mend" or "ok"."""
    what: str
    """What is wrong with it, in words; "" of a good one."""
    figures: dict[str, Any] | None
    """None of one that has never been made."""
    step_us: float | None
    change: str
    """What the last run changed; "" for nothing."""

    @property
    def false_alarms(self) -> float | None:
        """A day, on normal data that set nothing; None where nobody knows."""
        rate = {} if self.figures is None else self.figures["false_alarms"]
        return rate["measured"] if rate.get("days") else None

    @property
    def badness(self) -> tuple[Any, ...]:
        """What comes first is the largest."""
        if self.figures is None:
            return (5,)
        quality = self.figures["quality"]
        wrong = {"failed": 4, "moved": 3, "mend": 2}.get(self.state, 0)
        chance = quality is not None and quality["outcome"] == CHANCE
        share = 0.0 if quality is None else 1 - quality["found"] / max(1, quality["faults"])
        data = self.figures["missing"] + self.figures["stuck"]
        return (max(wrong, int(chance)), round(share, 2), self.false_alarms or 0.0, data)


def rows_of(site: Site) -> list[Row]:
    """All machines of a site, the worst first."""
    failed = dict(site.last.get("failed", {}))
    drift = site.drift() if (site.folder / DRIFT).is_file() else {}
    found = []
    for name in sorted({*site.machines, *failed}):
        entry, made = site.machines.get(name), site.last["machines"].get(name, {})
        state, what = _state(name, entry, failed, drift)
        figures = None if entry is None else entry["figures"]
        change = _change(figures, made) if made.get("run") == site.last.get("run") else ""
        found.append(Row(name, state, what, figures, made.get("step_us"), change))
    return sorted(found, key=lambda row: row.badness, reverse=True)


def _state(
    name: str, entry: dict[str, Any] | None, failed: dict[str, str], drift: dict[str, Any]
) -> tuple[str, str]:  # fmt: skip
    if name in failed:
        return "failed", failed[name]
    for state, about in (("moved", "reasons"), ("mend", "mend")):
        found = drift.get(state, {}).get(name)
        made_since = entry is not None and state == "moved" and entry.get("since") == (found or {}).get("since")
        if found is not None and not (made_since and "instead_of" in (entry or {})):
            return state, "; ".join(found[about])
    return "ok", ""


def _change(figures: dict[str, Any] | None, made: dict[str, Any]) -> str:
    """Why the last run made it, and what that changed."""
    before, words = made.get("before"), [made["why"]]
    if before is not None and figures is not None:
        for label, of in CHANGES.items():
            was, now = of(before), of(figures)
            if was is not None and now is not None and was != now:
                words.append(f"{label} {was:.3g} → {now:.3g}")
    return ", ".join(words)


CHANGES: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "threshold": lambda figures: figures["threshold"],
    "false alarms a day": lambda figures: figures["false_alarms"]["measured"],
    "faults found": lambda figures: None if figures["quality"] is None else figures["quality"]["found"],
}

BY_CHANCE = "by chance"
FINE = ("good", "few faults", "ok")
"""Verdicts after which nobody has to do anything."""


def summary(rows: list[Row], site: Site) -> list[str]:
    """In words: how many there are, what needs somebody, what the last run was."""
    said = [verdict(row) for row in rows]
    lines = [f"{len(rows)} machines, {sum(each in FINE for each in said)} of them fine."]
    if chance := said.count(BY_CHANCE):
        lines.append(f"{chance} found no more than chance explains, as far as their labels tell.")
    for state, words in (("failed", "failed"), ("moved", "have moved"), ("mend", "have sensors to be mended")):
        if count := sum(row.state == state for row in rows):
            lines.append(f"{count} {words}.")
    judged = [row.figures["quality"] for row in rows if row.figures and row.figures["quality"]]
    if judged:
        faults, found, chance = (sum(one[key] for one in judged) for key in ("faults", "found", "by_chance"))
        seen = (
            " (on data that trained them, where a machine has no test)" if any(q["trained_on"] for q in judged) else ""
        )
        lines.append(
            f"{found} of {faults} labeled faults found on {len(judged)} machines, {chance:.0f} by chance{seen}."
        )
    if site.last.get("run"):
        changed = sum(bool(row.change) for row in rows)
        lines.append(f"Last run: {changed} made in {site.last['took_s']:.0f} s, {site.last['unchanged']} unchanged.")
    return lines


COLUMNS = ("machine", "faults", "chance", "false/day", "missing", "stuck", "kB", "µs")


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table, as COLUMNS."""
    if row.figures is None:
        return (row.name, *["-"] * (len(COLUMNS) - 1))
    figures, quality = row.figures, row.figures["quality"]
    return (
        row.name,
        "-" if quality is None else f"{quality['found']}/{quality['faults']}",
        "-" if quality is None else f"{quality['by_chance']:.1f}",
        "-" if row.false_alarms is None else f"{row.false_alarms:.1f}",
        f"{figures['missing']:.1%}",
        f"{figures['stuck']}",
        f"{figures['bytes'] / 1000:.0f}",
        "-" if row.step_us is None else f"{row.step_us:.0f}",
    )


def verdict(row: Row) -> str:
    """In a word or two."""
    if row.state != "ok":
        return row.state
    quality = row.figures and row.figures["quality"]
    if quality and quality["outcome"] in (CHANCE, FEW, GOOD):
        return {CHANCE: BY_CHANCE, FEW: "few faults", GOOD: "good"}[quality["outcome"]]
    return "alarms" if (row.false_alarms or 0.0) >= MANY_A_DAY else "ok"


def table(rows: list[Row]) -> list[str]:
    """80 columns, the worst machines."""
    widths = (NAME, 8, 8, 11, 9, 7, 7, 6)
    head = f"{COLUMNS[0]:<{NAME}}" + "".join(f"{name:>{width - 1}}" for name, width in zip(COLUMNS[1:], widths[1:]))
    lines = [f"{head}  verdict"]
    for row in rows[:ROWS]:
        name, *rest = cells(row)
        line = f"{shown(name, NAME - 2):<{NAME}}" + "".join(f"{c:>{w - 1}}" for c, w in zip(rest, widths[1:]))
        lines.append(f"{line}  {verdict(row)}")
    if len(rows) > ROWS:
        lines.append(f"… and {len(rows) - ROWS} better ones; the page shows all")
    return lines


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<section id="words">{words}</section>
<h2>Machines, the worst first</h2>
<div class="scroll"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
<p class="hint">faults: labeled ones that were found; chance: as many alarms at random times find so many. false/day:
alarms on normal data that was kept aside. missing, stuck: of what was trained on. µs: one step, where it was made.</p>
</main>
</body>
</html>
"""


def page(rows: list[Row], site: Site) -> str:
    """One file with all of it, that loads nothing and runs nothing."""
    style = (resources.files("edgekd.report") / "report.css").read_text("utf-8")
    heads = [*COLUMNS, "verdict", "what is wrong", "last run"]
    body = []
    for row in rows:
        name, *numbers = cells(row)
        columns = [f"<td>{html.escape(name)}</td>", *(f'<td class="number">{html.escape(n)}</td>' for n in numbers)]
        columns += [f"<td>{html.escape(verdict(row))}</td>"]
        columns += [f'<td class="wide">{html.escape(text)}</td>' for text in (row.what, row.change)]
        body.append(f"<tr>{''.join(columns)}</tr>")
    return PAGE.format(
        policy=POLICY.format(scripts="'none'", styles=hashes([style])),
        title=html.escape(f"Fleet {site.folder.resolve().name}"),
        style=style,
        words="".join(f"<p>{html.escape(line)}</p>" for line in summary(rows, site)),
        head="".join(
            f'<th class="number">{name}</th>' if name in COLUMNS[1:] else f"<th>{name}</th>" for name in heads
        ),
        rows="\n".join(body),
    )
