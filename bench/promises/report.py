"""The report of a long recording: how long it takes to make, how large it is, how fast it is in a browser.

    python -m bench.promises.report [--samples 100000] [--sensors 50]

A simulated plant with faults, scored by its `innovations` student, trained on 20,000 samples. The page is opened from a
file in Debian's Chromium (Selenium drives it); its slider is moved 50 times. Needs chromium and chromedriver.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.results import rounded, save, table
from edgekd.data import save as save_recording
from edgekd.distillation import distill
from edgekd.report.content import content
from edgekd.report.gather import gather, read
from edgekd.report.page import page, write
from edgekd.simulation.simulate import simulate

TRAINING = 20_000
OPENED, MOVES = 9, 50
BOUNDS = {"making s": 20, "MB": 3, "all drawn ms": 2000, "slider worst ms": 50}
OPENED_AFTER = """
const done = arguments[0], at = performance.timing;
const wait = () => {
  const [painted] = performance.getEntriesByName("first-contentful-paint");
  if (painted && at.loadEventEnd) done([painted.startTime, at.loadEventEnd - at.navigationStart]);
  else setTimeout(wait, 20);
};
wait();
"""
MOVE = """
const [step, done] = arguments, slider = document.getElementById("slider"), began = performance.now();
slider.value = step;
slider.dispatchEvent(new Event("input"));
const handled = performance.now() - began;
requestAnimationFrame(() => setTimeout(() => done([handled, performance.now() - began])));
"""


@click.command()
@click.option("--samples", default=100_000, show_default=True)
@click.option("--sensors", default=50, show_default=True)
@click.option("--preset", default="innovations", show_default=True)
def main(samples: int, sensors: int, preset: str) -> None:
    """Measure, print and save."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        student, data, out = folder / "student.pt", folder / "plant.csv", folder / "report.html"
        distill(simulate(TRAINING, sensors, seed=1, faults=()).recording, student, preset=preset)
        save_recording(simulate(samples, sensors, seed=2).recording, data)
        measured = {**making(student, data, out), **showing(out)}
    figures = [{"what": what, "measured": value, "bound": BOUNDS.get(what, "")} for what, value in measured.items()]
    print(table(figures))
    save("report", rounded(figures), samples=samples, sensors=sensors, preset=preset)


def making(student: Path, data: Path, out: Path) -> dict[str, float]:
    """Seconds of wall clock, and of one core, from the recording's file to the report's."""
    began, began_cpu = time.perf_counter(), time.process_time()
    found = read(student, str(data), None, {})
    read_s = time.perf_counter() - began
    write(page(content(gather(student, found))), out)
    return {
        "reading s": read_s,
        "making s": time.perf_counter() - began,
        "of that, CPU s": time.process_time() - began_cpu,
        "MB": out.stat().st_size / 1e6,
    }


def showing(out: Path) -> dict[str, float]:
    """Milliseconds in the browser: medians of several times that it was opened, and the slider moved."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from browser import chromium

    with chromium() as browser:
        opened = []
        for _ in range(OPENED):
            browser.open(out)
            opened.append(browser.driver.execute_async_script(OPENED_AFTER))
        moves: list[Any] = [browser.driver.execute_async_script(MOVE, 1000 * i // MOVES) for i in range(MOVES)]
        assert not browser.console()
    handled, framed = (sorted(times) for times in zip(*moves))
    return {
        "first paint ms": statistics.median(painted for painted, _ in opened),
        "all drawn ms": statistics.median(drawn for _, drawn in opened),
        "slider median ms": handled[MOVES // 2],
        "slider worst ms": handled[-1],
        "slider to frame median ms": framed[MOVES // 2],
        "slider to frame worst ms": framed[-1],
    }


if __name__ == "__main__":
    main()
