"""The report: its page driven as a person would, and what goes into it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner, Result
from step_models import step_graph, step_manifest, step_samples

from edgekd.cli import cli
from edgekd.data import Recording, save
from edgekd.evaluation.alarms import SCORE, SLOW, STUCK, alarms_told, first_told
from edgekd.evaluation.settings import Setting
from edgekd.export.embed import embed
from edgekd.report.content import content
from edgekd.report.device import alarms_of
from edgekd.report.envelopes import bin_starts, curves
from edgekd.report.gather import Report, gather, read
from edgekd.report.page import page
from edgekd.runtime.engines import load_engine
from edgekd.runtime.manifest import SelfTestSpec
from edgekd.runtime.selftest import self_test_scores

if TYPE_CHECKING:
    from browser import Browser

START_S = 1_767_571_200.0  # 2026-01-05 00:00 UTC
HOP, SAMPLES = 4, 4000
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">"
"""A sensor's name, an event's sensor, and a note."""
SPIKE = slice(1600, 1616)
"""Where `HOSTILE` alone goes mad."""
SET = """
const [threshold, duration, cooldown] = arguments, told = document.getElementById("outcome").dataset;
for (const [id, value] of [["threshold", threshold], ["duration", duration], ["cooldown", cooldown]]) {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event("change"));
}
return {...told};
"""
WIDER = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.onnx, of which one sensor has a hostile name, and plant.csv: days of minutes, two entities,
    faults and a stuck sensor, with report.html of both."""
    folder = tmp_path_factory.mktemp("report")
    model = step_graph(3, HOP).SerializeToString()
    spec = step_manifest(3, HOP, warmup=40, period_s=60.0, threshold=0.3)
    names = ("pump_a", "temp_c", HOSTILE)
    sensors = [replace(sensor, name=name) for sensor, name in zip(spec.sensors, names)]
    sensors[0] = replace(sensors[0], longest_still_s=3600.0)
    spec = replace(spec, sensors=tuple(sensors))
    scores = self_test_scores(load_engine(model, spec), spec, seed=7, steps=12)
    (folder / "model.onnx").write_bytes(embed(model, replace(spec, self_test=SelfTestSpec(7, 12, tuple(scores), 1e-4))))
    values = step_samples(3, SAMPLES)
    values[SPIKE, 2] += 60
    values[3000:3100, 0] = values[3000, 0]
    labels = np.zeros(SAMPLES, bool)
    for begin in (300, 1200, SPIKE.start, 2990, 3600):
        labels[begin : begin + 20] = True
    times_s = START_S + 60.0 * np.arange(SAMPLES) + np.where(np.arange(SAMPLES) < 2500, 0, 86_400)
    recording = Recording(values, names, 60.0, labels, times_s=times_s, source="plant")
    save(recording, folder / "plant.csv")
    result = report(folder / "model.onnx", folder / "plant.csv", "-o", folder / "report.html")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def gathered(made: Path) -> Report:
    model = made / "model.onnx"
    return gather(model, read(model, str(made / "plant.csv"), None, {}))


def report(*words: object) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, words)])


def text(browser: Browser, name: str) -> str:
    return str(browser.driver.find_element("id", name).get_property("textContent"))


def test_every_setting_counts_as_a_device_does(browser: Browser, made: Path, gathered: Report) -> None:
    found, now = gathered.model.found, gathered.model.setting.threshold
    others = [alarm for alarm in alarms_told(found, now) if alarm.kind != SCORE]
    told = first_told(found, now)
    segments = gathered.verdicts.segments
    by_others = [np.minimum(told[SLOW], told[STUCK])[begin:end].min() for begin, end in segments]
    browser.open(made / "report.html")
    lowest = float(np.quantile(found.scores, 0.9))
    levels = [now, *np.quantile(found.scores[found.scores > lowest], (0.01, 0.3, 0.6, 0.9, 1)).tolist()]
    counted = set()
    for threshold, min_hops, cooldown_hops in product(levels, (0, 2, 8), (6, 60)):
        outcome = gathered.verdicts.outcome(Setting(threshold, min_hops, cooldown_hops))
        shown = browser.driver.execute_script(SET, repr(threshold), min_hops, cooldown_hops)
        assert int(shown["alarms"]) == outcome.alarms + len(others)
        assert int(shown["false"]) == outcome.false_alarms + sum(alarm.false for alarm in others)
        at = [min(t if t >= 0 else SAMPLES, other) for t, other in zip(outcome.told_at, by_others)]
        delays = [60.0 * (t - begin) for t, (begin, _) in zip(at, segments) if t < SAMPLES]
        assert int(shown["found"]) == len(delays)
        assert shown["delay"] == ("" if not delays else f"{np.median(delays):g}")
        counted.add(shown["alarms"])
    assert others and len(counted) > 10


def test_a_drag_names_what_was_unusual_and_shows_its_curve(browser: Browser, made: Path) -> None:
    from selenium.webdriver import ActionChains

    browser.open(made / "report.html")
    area = browser.driver.find_element("css selector", "#score .u-over")
    width = area.size["width"]
    whole = SAMPLES + 1440  # with the day between the two parts
    begin, end = (width * sample / whole - width / 2 for sample in (SPIKE.start - 20, SPIKE.stop + 20))
    mouse = ActionChains(browser.driver).move_to_element_with_offset(area, int(begin), 0).click_and_hold()
    mouse.move_to_element_with_offset(area, int(end), 10).release().perform()
    first = browser.driver.find_element("css selector", "#ranking button span")
    assert "2026-01-06" in text(browser, "selected") and first.text == HOSTILE
    assert HOSTILE in browser.driver.find_element("css selector", "#curves figcaption").text
    browser.driver.find_elements("css selector", "#ranking button")[1].click()
    assert HOSTILE not in browser.driver.find_element("css selector", "#curves figcaption").text
    assert browser.console() == []


def test_the_keyboard_is_enough(browser: Browser, made: Path) -> None:
    from selenium.webdriver import Keys

    browser.open(made / "report.html")
    slider, alarms, chart = (browser.driver.find_element("id", name) for name in ("slider", "alarms", "score"))
    before = text(browser, "outcome")
    slider.send_keys(Keys.END)
    assert text(browser, "outcome") != before and text(browser, "outcome").startswith("0")
    assert "--threshold" in text(browser, "command") and "threshold = " in text(browser, "toml")
    slider.send_keys(Keys.HOME)
    browser.driver.execute_async_script("setTimeout(arguments[0], 300)")  # the list follows when the slider rests
    alarms.send_keys(Keys.HOME)
    first = text(browser, "selected")
    alarms.send_keys(Keys.DOWN)
    second = text(browser, "selected")
    assert first != second and "alarm" in second
    chart.send_keys(Keys.RIGHT)
    moved = text(browser, "selected")
    assert moved.startswith("Selected")
    chart.send_keys(Keys.SHIFT + Keys.RIGHT + Keys.NULL)
    longer = text(browser, "selected")
    assert longer.split(", ")[:2] == moved.split(", ")[:2] and longer != moved
    all_of_them = text(browser, "alarms-label")
    chart.send_keys(Keys.ENTER)
    assert "in view" in text(browser, "alarms-label")
    chart.send_keys(Keys.ESCAPE)
    assert text(browser, "alarms-label") == all_of_them


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_asks_nobody_for_anything_and_fits_every_screen(
    browser: Browser, made: Path, tmp_path: Path, dark: bool
) -> None:
    for width in (400, 1280, 2560):
        browser.open(made / "report.html", width, dark=dark)
        assert browser.driver.execute_script(WIDER) == 0
        assert browser.console() == [] and len(browser.requests()) == 1
    browser.pdf(tmp_path / "report.pdf")
    assert browser.console() == [] and (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_names_labels_and_notes_are_text_whatever_they_say(browser: Browser, made: Path, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(
        "a line of the journal\n"
        + json.dumps({"event": "anomaly", "time": "2026-01-05T05:00:00Z", "sample": 300, "threshold": 0.7,
                      "severity": 2.0, "sensors": [HOSTILE, "\u2028"]})
        + "\n"
        + json.dumps({"event": "anomaly_end", "time": "2026-01-05T05:20:00Z", "sample": 320, "severity": 3.5})
        + "\n"
    )  # fmt: skip
    quoted = HOSTILE.replace('"', '""')
    (tmp_path / "marks.csv").write_text(
        f'stream,start,end,mark,note\np,2026-01-05T05:00:00Z,2026-01-05T05:19:00Z,true,"{quoted}"\n'
    )
    out, files = tmp_path / "report.html", ("--events", tmp_path / "events.jsonl", "--marks", tmp_path / "marks.csv")
    result = report(made / "model.onnx", made / "plant.csv", *files, "-o", out, "--against", made / "model.onnx")
    assert result.exit_code == 0, result.output
    browser.open(out)
    assert browser.driver.title == "model.onnx on plant.csv" and not browser.driver.find_elements("css selector", "img")
    row = browser.driver.find_element("css selector", "#device-alarms tr:nth-child(2)").text
    assert HOSTILE in row and "3.5" in row and "true: " in row
    assert "model.onnx" in text(browser, "against-heading") and "correlation of the scores 1" in text(browser, "alike")
    assert browser.console() == [] and len(browser.requests()) == 1
    assert browser.driver.execute_script("return document.getElementById('threshold').value") == "0.7"


def test_what_is_no_data_is_told_in_a_line(made: Path, tmp_path: Path) -> None:
    def refused(*words: object) -> str:
        result = report(*words)
        assert result.exit_code and result.exception is not None
        return str(result.exception)

    model, data = made / "model.onnx", made / "plant.csv"
    assert "would write over DATA" in refused(model, data, "-o", data)
    assert "the model comes first" in refused(data, model, "-o", tmp_path / "r.html")
    assert "holds no event; give the JSON lines" in refused(model, data, "--events", data, "-o", tmp_path / "r.html")
    assert "cannot be read" in refused(model, data, "--events", tmp_path / "none", "-o", tmp_path / "r.html")
    assert "choose another place with -o" in refused(model, data, "-o", tmp_path / "no" / "r.html")
    assert not list(tmp_path.iterdir())


def test_advice_is_printed_with_the_command_that_sets_it(made: Path, tmp_path: Path) -> None:
    from edgekd.data import load

    whole = load(str(made / "plant.csv"))
    save(replace(whole, labels=np.arange(len(whole)) // 4 == SPIKE.start // 4), tmp_path / "plant.csv")
    result = report(made / "model.onnx", tmp_path / "plant.csv", "-o", tmp_path / "report.html")
    assert result.exit_code == 0
    assert "no true one lost: 0 in place of" in result.stdout
    assert "    edgekd-run --model model.onnx --threshold " in result.stdout


def test_alarms_of_a_device_are_placed_by_time_or_by_sample() -> None:
    recording = Recording(np.zeros((100, 1), np.float32), ("s",), 60.0, times_s=START_S + 60.0 * np.arange(100))
    dated = [
        {"event": "anomaly", "time": "2026-01-05T00:20:00Z", "sample": 900, "start": 895, "sensors": ["s"]},
        {"event": "anomaly", "kind": "slow", "time": "2026-01-05T00:30:00Z", "sample": 910},
        {"event": "anomaly_end", "time": "2026-01-05T00:40:00Z", "sample": 920},
        {"event": "sensor_stuck", "time": "2026-01-05T01:00:00Z", "sample": 940, "start": 930, "sensor": "s"},
        {"event": "anomaly", "time": "2027-01-05T00:20:00Z", "sample": 5},
        {"event": "anomaly", "time": {}, "sample": "x"},
    ]
    told = [(each.kind, each.first, each.at, each.last) for each in alarms_of(dated, recording)]
    assert told == [(SCORE, 15, 20, 39), (SLOW, 30, 30, 99), (STUCK, 50, 60, 99)]
    undated = alarms_of(
        [{"event": "anomaly", "sample": 7}, {"event": "anomaly", "sample": 700}], replace(recording, times_s=None)
    )
    assert [each.at for each in undated] == [7]


def test_bins_keep_extremes_and_are_narrow_where_something_happened() -> None:
    values = np.random.default_rng(0).normal(size=(100_000, 50)).astype(np.float32)
    values[70_000, 3] = 1e4
    interesting = np.zeros(len(values), bool)
    interesting[69_000:71_000] = True
    bins = bin_starts(len(values), interesting, (0, 50_001), 50)
    assert 50_001 in bins and len(bins) < 5000
    widths, at = np.diff(bins), bins[:-1]
    assert widths[(at > 69_000) & (at < 70_900)].max() == 1 and np.median(widths[at < 60_000]) > 20
    packed = curves(values, bins)
    assert packed["from"][3] + 65535 * packed["step"][3] == pytest.approx(1e4)


def test_a_long_report_is_small(gathered: Report) -> None:
    assert len(page(content(gathered))) < 400_000
