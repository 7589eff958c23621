"""A report as a table for people."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgekd.evaluation.report import AT_THRESHOLD, BEST, HIGHEST, RANKS, Figure, Report, Spread
from edgekd.runtime.duration import duration, unit_of

SECTIONS = {
    RANKS: "At every threshold",
    HIGHEST: "Of the highest score alone, as the UCR archive asks",
    AT_THRESHOLD: "At the threshold ({rule})",
    BEST: "At the best threshold on these labels: only to compare with published tables",
}
HEADLINE = {"vus_pr", "event_recall", "false_alarms_per_day"}


def render(report: Report) -> Group:
    """The report for a rich console: what was measured, the figures beside chance, what to keep in mind."""
    parts: list[Table | Text] = [Text(_headline(report))]
    for thresholds, title in SECTIONS.items():
        keys = [k for k, f in report.figures.items() if f.measure.thresholds == thresholds and _shown(report, k)]
        if keys:
            parts += [Text(title.format(rule=report.threshold_rule), style="italic"), _table(report, keys)]
    parts += [Text(line, style="dim") for line in _notes(report)]
    return Group(*parts)


def _shown(report: Report, key: str) -> bool:
    """The delay in samples is said beside the one in seconds; that no alarm outlasts an event needs no line."""
    return key != "delay_median_samples" and not (key.endswith("trailing_per_day") and not report.figures[key].value)


def _table(report: Report, keys: list[str]) -> Table:
    table = Table(box=None, show_header=keys[0] == next(iter(report.figures)), header_style="dim", pad_edge=False)
    for header, width in (("", 21), ("this detector", 21), ("random scores", 15), ("protocol", 17)):
        table.add_column(header, min_width=width, justify="left" if header in ("", "protocol") else "right")
    for key in keys:
        figure = report.figures[key]
        style = "bold" if key in HEADLINE else None
        table.add_row(figure.measure.name, _value(report, key), _spread(figure), figure.measure.detail, style=style)
    return table


def _headline(report: Report) -> str:
    about = report.recording
    labeled = "no labels"
    if about["events"] is not None:
        labeled = f"{about['events']} events, {about['anomalous_share']:.1%} of the points anomalous"
    entities = f", {about['entities']} entities" if about["entities"] > 1 else ""
    return (
        f"{about['source'] or 'recording'}: {about['samples']:,} samples ({duration(about['days'] * 86400)}),"
        f" {about['sensors']} sensors{entities}\n{labeled}\n"
        f"threshold {report.threshold:.6g}; {report.alarm_share:.2%} of {report.verdicts:,} verdicts above it,"
        f" one for {report.hop} samples\n"
    )


def _number(value: float, unit: str, digits: int = 3) -> str:
    if unit == "s":
        return duration(value)
    if not unit:
        return f"{value:.3f}"
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"


def _value(report: Report, key: str) -> str:
    figure = report.figures[key]
    if figure.value is None:
        return "-"
    if key == "event_recall":
        events = report.recording["events"]
        return f"{events - len(report.missed)} of {events}  {figure.value:.3f}"
    if figure.measure.thresholds == HIGHEST:
        return "yes" if figure.value else "no"
    text = _number(figure.value, figure.measure.unit)
    if key == "delay_median_s":
        return f"{text} ({report.figures['delay_median_samples'].value:,.0f} samples)"
    return text + (f" {figure.measure.unit}" if figure.measure.unit == "/day" else "")


def _spread(figure: Figure) -> str:
    if figure.random is None:
        return "-"
    mean, sd, unit = figure.random.mean, figure.random.sd, figure.measure.unit
    if unit == "s":
        name, size = unit_of(mean)
        digits = 1 if mean < 10 * size else 0
        return f"{mean / size:,.{digits}f} ± {sd / size:,.{digits}f} {name}"
    return f"{_number(mean, unit)} ± {_number(sd, unit, digits=1)}"


def _notes(report: Report) -> list[str]:
    lines = [""]
    if "vus_pr" not in report.figures:
        quantiles = ", ".join(f"{100 * float(q):g} % {v:.4g}" for q, v in report.score_quantiles.items())
        normal = " All time counts as normal." if report.recording["events"] is None else ""
        lines.append(f"Without normal and anomalous labels only alarms can be counted.{normal}")
        lines.append(f"Score quantiles: {quantiles}.")
        return lines
    lines.append("random scores: one drawn for each verdict, as many above the threshold; mean ± standard deviation.")
    laid = [f"{f.measure.name} {_laid(f.relaid)}" for key in ("vus_pr", "auc_pr") if (f := report.figures[key]).relaid]
    if laid:
        lines.append(f"The detector's own scores against the labeled segments laid out anew: {', '.join(laid)}.")
    if report.unscored_share:
        lines.append(f"{report.unscored_share:.2%} of the points have no verdict (warm-up); they rank last.")
    if report.missed:
        listed = ", ".join(f"{a}-{b - 1}" for a, b in report.missed[:8])
        lines.append(f"Missed events, in samples: {listed}{', ...' if len(report.missed) > 8 else ''}.")
    return lines


def _laid(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.mean:.3f} ± {spread.sd:.3f}"
