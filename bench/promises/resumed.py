"""Whether the long benches go on after a kill: what a run that is killed again and again finds is what one run finds.

    python -m bench.promises.resumed --data DIR [NAME ...]

Each runs in a small form, twice, in folders of its own: once whole, once killed (-9) at random moments until it ends.
Compared is every figure but times. AnomalyLLM needs its language model (bench/anomalyllm/tables.py says which).
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.results import kept, save, table

BENCHES = {
    "regression": "regression.grid --sets mnist --classes 0 --seeds 1 --epochs 4 --student our-S1 --student our-S2",
    "lta": "paper_lta.tables --table 3 --dataset SMAP --seeds 1 --training-hop 4000 --no-lstm",
    "anomalyllm": "anomalyllm.tables --table ablation --series 2 --seeds 1 --workers 1",
    "lta_on_innovations": "detection.lta_on_innovations --set SKAB --part dev --seeds 1 innovations",
    "patches": "detection.patches --set ASD",
    "plants": "detection.plants --seeds 1-2 --plant line --plant batch",
}
KILLS = 5
OF_TIME = re.compile(r"cpu|second|minute|_s$|_us|µs|command|machine|fit")
"""Keys of what no two runs agree on."""


def run(folder: Path, arguments: list[str], data: Path, kill_after: float | None) -> bool:
    """The bench in its folder; whether it has ended by itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=folder, start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), "EDGEKD_DATA": str(data)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        _, words = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return False
    if process.returncode:
        raise click.ClickException(f"{' '.join(arguments)}: {words.strip().splitlines()[-1]}")
    return True


def compared(name: str, data: Path, fate: random.Random) -> dict[str, Any]:
    """Both runs of a bench."""
    module, *options = BENCHES[name].split()
    arguments = [f"bench.{module}", *options]
    with TemporaryDirectory() as temporary:
        whole, cut = (_fresh(Path(temporary) / kind) for kind in ("whole", "cut"))
        began = time.monotonic()
        run(whole, arguments, data, None)
        took_s, kills = time.monotonic() - began, 0
        while not run(cut, arguments, data, fate.uniform(0.2, 0.9) * took_s if kills < KILLS else None):
            kills += 1
        results = [_figures(folder / "bench" / "results") for folder in (whole, cut)]
    different = [at for at in results[0].keys() | results[1].keys() if results[0].get(at) != results[1].get(at)]
    return {
        "bench": name, "minutes": took_s / 60, "kills": kills, "figures": len(results[0]), "different": len(different),
        "for example": ", ".join(sorted(different)[:3]),
    }  # fmt: skip


def _fresh(folder: Path) -> Path:
    """A copy of the benches without results, but for the committee's, which others stand beside."""
    source = Path(__file__).parents[1]
    shutil.copytree(source, folder / "bench", ignore=shutil.ignore_patterns("results", "trained", "__pycache__"))
    (folder / "bench" / "results").mkdir()
    shutil.copy(source / "results" / "innovations.json", folder / "bench" / "results")
    return folder


def _figures(results: Path) -> dict[str, Any]:
    """Every value of every result file but times, by its place."""
    found: dict[str, Any] = {}

    def walk(at: str, value: Any) -> None:
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if parts is None:
            found[at] = value
        for key, part in parts or ():
            if not OF_TIME.search(str(key)):
                walk(f"{at}/{key}", part)

    for path in results.rglob("*.json"):
        walk(path.name, json.loads(path.read_text()))
    return found


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHES)))
def main(data: Path, names: tuple[str, ...]) -> None:
    """Run, kill, compare, print and save."""
    fate = random.Random(0)
    rows = {row["bench"]: row for row in kept("resumed") or []}
    for name in names or BENCHES:
        rows[name] = compared(name, data.resolve(), fate)
        print(table([rows[name]]), flush=True)
        save("resumed", list(rows.values()), kills=KILLS)


if __name__ == "__main__":
    main()
