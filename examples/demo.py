"""The whole chain on a simulated plant, in a few minutes: what `make demo` runs.

    python -m examples.demo [--out demo]

simulate -> distill -> evaluate -> export --int8 -> bench -> a serial line. Every command is printed before it runs, so
that this is also a tour. The serial line is a pty pair: the faulty recording goes into it line by line, and a real
`edgekd-run --serial` at the other end tells its alarms as they come. What it makes stays in the folder.
"""

from __future__ import annotations

import json
import resource
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from bench.promises.pretend_port import Events, watch
from edgekd.runtime.duration import duration
from edgekd.runtime.errors import EdgeKDError, GateFailed, UsageError
from edgekd.runtime.guard import admit
from edgekd.simulation.simulate import Event, simulate

TRAIN_SAMPLES, TEST_SAMPLES, SENSORS = 20_000, 8_000, 12  # two weeks to learn from, five and a half days to watch
TRAIN_SEED, TEST_SEED = 1, 2
SHOWN = ("teacher", "student", "int8")  # kinds of `edgekd bench`'s rows that the last tables are about


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("demo"), show_default=True)
def main(out: Path) -> None:
    """Run the demo in the folder OUT."""
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    _show("mkdir", "-p", str(out))
    _show("cd", str(out))
    faults = _make_plant(out)
    _title("A teacher learns what is normal, a student learns from the teacher")
    _run(out, "distill", "normal.csv", "-o", "student.pt")
    _title("What the student finds in the faulty days, beside chance and a Mahalanobis distance")
    _run(out, "evaluate", "student.pt", "faulty.csv", "--plot", "scores.png")
    _title("The whole detector in one int8 file, proven against torch")
    _run(out, "export", "student.pt", "--int8")
    rows = _compare(out)
    events = _feed(out, faults)
    _check(out, events)
    _conclude(rows, faults, events)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in used)
    click.echo(f"Plots: {out / 'scores.png'} (scores over time), {out / 'cost.png'} (quality against cost)")
    click.echo(f"{time.monotonic() - began:.0f} s in all, {cpu:.0f} s of processor time")


def _make_plant(out: Path) -> tuple[Event, ...]:
    """Two recordings; the faults in the second."""
    _title("A plant: two normal weeks to learn from, and five days with faults")
    for name, samples, *more in (
        ("normal.csv", TRAIN_SAMPLES, "--fault-free", "--seed", TRAIN_SEED),
        ("faulty.csv", TEST_SAMPLES, "--seed", TEST_SEED),
    ):
        again = ["--force"] if (out / name).exists() else []
        _run(out, "simulate", name, "--samples", samples, "--sensors", SENSORS, *more, *again)
    return simulate(samples=TEST_SAMPLES, sensors=SENSORS, seed=TEST_SEED).events  # the same seed, the same plant


def _compare(out: Path) -> list[dict[str, Any]]:
    """`edgekd bench`; its rows."""
    _title("Teacher, student and exported files side by side")
    files = ("student.pt", "student.onnx", "--data", "faulty.csv")
    text = _run(out, "bench", *files, "--plot", "cost.png", "--starts", 1, "--json", into="bench.json")
    result = json.loads(text)
    from edgekd.compare.table import render

    _print(render(result))
    return result["rows"]


def _feed(out: Path, faults: tuple[Event, ...]) -> Events:
    """The faulty days through a serial line; the events of `edgekd-run`."""
    threshold = admit(out / "student.onnx", try_first=False)[0].threshold.value
    _title(f"The file at a serial line: the faulty days go in, alarms (scores above {threshold:.2f}) come out")
    _show("edgekd-run", "--model", "student.onnx", "--serial", "ttyDEMO", "--scores", ">", "events.jsonl")

    def tell(event: dict[str, Any]) -> None:
        """An alarm with its score and the sensors behind it, and what was really going on."""
        fault = next((f for f in faults if f.start <= event.get("sample", -1) < f.end), None)
        truth = f"[{fault.kind} since {fault.start}]" if fault else "[no fault]"
        slow = event.get("kind") == "slow"
        if event["event"] == "anomaly":
            word = "SLOW ALARM" if slow else "ALARM"
            click.echo(
                f"{_clock(event)}  {word:<10} {event['score']:6.2f}  {', '.join(event['sensors'][:2]):<39} {truth}"
            )
        elif event["event"] == "anomaly_end":
            lasted = f"after {duration(event['duration_s'])}, peak {event['peak']:.2f}"
            click.echo(f"{_clock(event)}  {'slow, over' if slow else 'over':<18} {lasted}")
        elif event["event"] == "sensor_stuck":
            said = f"{event['sensor']} has said {event['value']:g} for {duration(event['duration_s'])}"
            click.echo(f"{_clock(event)}  {'STUCK':<18} {said:<39} {truth}")

    return watch(
        _command("edgekd-run"), out / "student.onnx", out / "faulty.csv", out / "ttyDEMO", out / "events.jsonl", tell
    )


def _check(out: Path, events: Events) -> None:
    """The line's scores against those of the same file on the workstation; raises GateFailed where they differ."""
    from edgekd.data import load
    from edgekd.evaluation.score_model import score_model
    from edgekd.runtime.sinks import json_score

    found = score_model(out / "student.onnx", load(str(out / "faulty.csv")))
    expected = dict(zip(found.samples.tolist(), map(json_score, found.scores.tolist())))
    told = {event["sample"]: event["score"] for event in events if event["event"] == "score"}
    if told != expected:
        same = sum(told.get(sample) == score for sample, score in expected.items())
        raise GateFailed(
            f"the serial line gave {len(told)} scores, of which {same} are those of {len(expected)} expected"
        )
    click.echo(f"{len(told)} scores came over the line, every one identical to the workstation's.")


def _conclude(rows: list[dict[str, Any]], faults: tuple[Event, ...], events: Events) -> None:
    """Every fault, and the three detectors that the demo is about."""
    shown = {row["kind"]: row for row in rows if row["kind"] in SHOWN}
    missed = {kind: {tuple(segment) for segment in row["quality"]["report"]["missed"]} for kind, row in shown.items()}
    _title("What became of each fault")
    table = _table("fault", "samples", "sensor", *(f"by {kind}" for kind in shown), "slow", "stuck")
    for fault in faults:
        marks = ["missed" if (fault.start, fault.end) in missed[kind] else "found" for kind in shown]
        more = ["found" if any(_tells(event, fault, kind) for event in events) else "" for kind in ("slow", "stuck")]
        table.add_row(fault.kind, f"{fault.start}-{fault.end - 1}", ", ".join(fault.sensors), *marks, *more)
    _print(table)
    click.echo("Found by slow alarms or as a stuck sensor: on the device, at the serial line.")
    _title("In short")
    table = _table("", "parameters", "bytes", "µs a step", "VUS-PR", "events found", "false alarms a day")
    for row in shown.values():
        quality = row["quality"]
        table.add_row(
            row["name"], f"{row['parameters']:,}", f"{row['weights_bytes'] or row['file_bytes']:,}",
            f"{row['step_us']['p50']:,.0f}", f"{quality['vus_pr']:.3f}",
            f"{quality['events_found']} of {quality['events']}", f"{quality['false_alarms_per_day']:.2f}",
        )  # fmt: skip
    _print(table)
    random = shown["int8"]["quality"]
    click.echo(f"Random scores get a VUS-PR of {random['vus_pr_random']:.3f} ± {random['vus_pr_random_sd']:.3f} here.")


def _tells(event: dict[str, Any], fault: Event, kind: str) -> bool:
    """Whether an event is a slow alarm during this fault, or says during it that its sensor is stuck."""
    if not fault.start <= event.get("sample", -1) < fault.end:
        return False
    if kind == "stuck":
        return event["event"] == "sensor_stuck" and event["sensor"] in fault.sensors
    return event["event"] == "anomaly" and event.get("kind") == "slow"


def _run(folder: Path, *arguments: object, into: str = "") -> str:
    """Print and run one `edgekd` command in the folder; what it prints, if that goes `into` a file."""
    words = [str(argument) for argument in arguments]
    _show("edgekd", *words, *((">", into) if into else ()))
    done = subprocess.run(
        [_command("edgekd"), *words], cwd=folder, stdout=subprocess.PIPE if into else None, text=True, check=False
    )
    if done.returncode:
        raise GateFailed(f"edgekd {words[0]} ended with {done.returncode}; its words stand above")
    if into:
        (folder / into).write_text(done.stdout)
    return done.stdout or ""


def _command(name: str) -> str:
    """The command that was installed with this interpreter, else the one on the path."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise UsageError(f"{name} is not installed; `make demo` installs it into .venv and runs this with it")
    return found


def _show(*words: str) -> None:
    click.echo("$ " + " ".join(word if word == ">" else shlex.quote(word) for word in words))


def _title(text: str) -> None:
    click.echo(f"\n# {text}")


def _clock(event: dict[str, Any]) -> str:
    return f"{event['time'][5:16].replace('T', ' ')}  sample {event['sample']:>4}"


def _table(*headers: str) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    for header in headers:
        words = header in ("", "fault", "samples", "sensor", "slow", "stuck") or header.startswith("by ")
        table.add_column(header, justify="left" if words else "right")
    return table


def _print(renderable: Any) -> None:
    from rich.console import Console

    Console(highlight=False, width=None if sys.stdout.isatty() else 110).print(renderable)


if __name__ == "__main__":
    try:
        main()
    except EdgeKDError as error:
        click.echo(f"demo: {error}", err=True)
        sys.exit(error.exit_code)
