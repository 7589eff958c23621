"""`edgekd simulate`: a plant's recording without any download."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekd.commands.files import File, check_files
from edgekd.file_kinds import RECORDING

if TYPE_CHECKING:
    from edgekd.simulation.simulate import Simulation


@click.command("simulate", short_help="Write a recording of a simulated plant with labeled faults.")
@click.argument("out", type=click.Path(dir_okay=False))
@click.option("--samples", default=10_080, show_default=True, help="Length of the recording; a week of minutes.")
@click.option(
    "--plant",
    default="line",
    show_default=True,
    metavar="NAME",
    help="line, batch, turbine, building, compressor or conveyor.",
)
@click.option("--sensors", type=int, help="Sensors of the line, 12 unless said; 17 and more are several lines.")
@click.option("--period-s", type=float, help="Seconds between the line's samples, 60 unless said.")
@click.option("--faults/--fault-free", default=True, show_default=True, help="Fault-free recordings are for training.")
@click.option(
    "--fault",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="Only this kind of fault, may be repeated: spike-burst, stuck-sensor, correlation-break, level-shift, and the "
    "two that no short window shows, slow-leak and cycle-drift.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same file, byte for byte.")
@click.option("--force", is_flag=True, help="Write over a recording that is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print what is in the file as JSON on stdout.")
def command(
    out: str,
    samples: int,
    plant: str,
    sensors: int | None,
    period_s: float | None,
    faults: bool,
    kinds: tuple[str, ...],
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Write OUT, a .csv or .parquet recording of a simulated plant: rates, loads, temperatures that follow them,
    pressures; days and weeks; and labeled faults.

    \b
    Example:
        edgekd simulate normal.csv --samples 20000 --fault-free --seed 1
        edgekd simulate plant.csv --seed 2
        edgekd simulate leaks.parquet --fault slow-leak --json
        edgekd simulate compressor.csv --plant compressor
    """
    check_files([], [File("OUT", Path(out), (RECORDING,))], force)
    from edgekd.data import save
    from edgekd.runtime.errors import UsageError
    from edgekd.simulation.simulate import simulate

    if kinds and not faults:
        raise UsageError("--fault and --fault-free contradict each other; give one of them")
    chosen = (kinds or None) if faults else ()
    simulation = simulate(samples, sensors, seed, chosen, period_s, plant)
    save(simulation.recording, out)
    if as_json:
        click.echo(json.dumps(_facts(simulation, out, seed)))
    else:
        click.echo(_table(simulation, out), err=True)


def _facts(simulation: Simulation, out: str, seed: int) -> dict[str, object]:
    recording = simulation.recording
    return {
        "file": out,
        "samples": len(recording),
        "sensors": list(recording.sensors),
        "period_s": recording.period_s,
        "seed": seed,
        "events": [asdict(event) for event in simulation.events],
    }


def _table(simulation: Simulation, out: str) -> str:
    """One line about the file, then one line for each fault."""
    recording, events = simulation.recording, simulation.events
    hours = len(recording) * recording.period_s / 3600
    lasts = f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
    lines = [f"{out}: {len(recording)} samples of {recording.n_sensors} sensors, {lasts}, {len(events) or 'no'} faults"]
    if events:
        lines.append(f"  {'fault':<18}{'first':>8}{'last':>8}  sensor")
    for event in events:
        lines.append(f"  {event.kind:<18}{event.start:>8}{event.end - 1:>8}  {', '.join(event.sensors)}")
    return "\n".join(lines)
