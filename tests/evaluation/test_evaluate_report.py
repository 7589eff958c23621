"""`edgekd evaluate`: the report beside chance, the same verdicts as on a device, and files that people can use."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from rich.console import Console
from step_models import step_file, step_samples, with_manifest
from step_tflite import step_tflite

from edgekd.cli import cli
from edgekd.data.recording import Recording
from edgekd.evaluation import plots
from edgekd.evaluation.cost_plot import CostPoint, plot_quality_against_cost
from edgekd.evaluation.plots import _columns, plot_scores
from edgekd.evaluation.report import MEASURES, Report, evaluate_scores
from edgekd.evaluation.score_model import score_model
from edgekd.evaluation.table import render
from edgekd.runtime.detector import Detector
from edgekd.runtime.errors import EdgeKDError, ModelRefused, RecordingError, UsageError

PNG = b"\x89PNG\r\n"


def recording(n_samples: int = 600, starts: tuple[int, ...] = (0,), labeled: bool = True, n: int = 3) -> Recording:
    """A few sensors with three events, the second of them a single point."""
    labels = np.zeros(n_samples, bool)
    for begin, end in ((100, 140), (300, 301), (450, 520)):
        labels[begin:end] = True
    return Recording(
        values=step_samples(n, n_samples),
        sensors=tuple(f"s{i}" for i in range(n)),
        period_s=1.0,
        labels=labels if labeled else None,
        starts=starts,
        entities=tuple(f"unit {i}" for i in range(len(starts))),
        source="bench rig",
    )


def detector_scores(of: Recording, hop: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """A detector that finds the first and the last event and cries wolf once."""
    samples = np.arange(2 * hop - 1, len(of), hop)
    scores = np.random.default_rng(0).random(len(samples))
    scores[((samples >= 112) & (samples < 140)) | ((samples >= 450) & (samples < 520))] += 5
    scores[(samples >= 200) & (samples < 215)] += 5
    return samples, scores


def said(report: Report, width: int = 80) -> str:
    """The table as people see it, as text."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render(report))
    return console.export_text()


def run(*arguments: str | Path) -> Result:
    """The command's result; its own errors are raised."""
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)], catch_exceptions=False, standalone_mode=False)


# --- the report


def test_every_figure_stands_beside_chance_and_names_its_threshold() -> None:
    of = recording()
    report = evaluate_scores(of, *detector_scores(of), threshold=3.0, hop=5)
    assert list(report.figures) == [key for key in MEASURES if not key.startswith("ucr")]  # those are of a single event
    figures = report.figures
    assert figures["event_recall"].value == pytest.approx(2 / 3)
    assert report.missed == ((300, 301),)
    assert figures["delay_median_samples"].value == np.median([114 - 100, 454 - 450])
    assert figures["false_alarms_per_day"].value == pytest.approx(1 / (of.labels.size - 5 - 115) * 86400, rel=0.02)
    assert figures["best_pa_f1"].measure.uses_test_labels and not figures["pa_f1"].measure.uses_test_labels
    for key in ("vus_pr", "auc_pr", "f1", "pa_f1", "best_pa_f1"):
        assert figures[key].random is not None and figures[key].relaid is not None
    assert figures["vus_pr"].sd_above_random > 3  # type: ignore[operator]
    assert figures["vus_pr"].value > figures["vus_pr"].relaid.mean  # type: ignore[union-attr, operator]
    assert report.unscored_share == pytest.approx(5 / 600)
    parsed = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert parsed["figures"]["best_pa_f1"]["uses_test_labels"] is True
    assert parsed["figures"]["vus_pr"]["random_sd"] > 0

    text = said(report)
    assert "2 of 3  0.667" in text and "Missed events, in samples: 300-300." in text
    assert text.index("VUS-PR") < text.index("event recall") < text.index("only to compare with published tables")


def test_the_same_seed_gives_the_same_report() -> None:
    of = recording()
    first, again = (evaluate_scores(of, *detector_scores(of), 3.0, 5, seed=4).to_json() for _ in range(2))
    other = evaluate_scores(of, *detector_scores(of), 3.0, 5, seed=40).to_json()
    assert first == again
    assert first["figures"]["vus_pr"]["value"] == other["figures"]["vus_pr"]["value"]
    assert first["figures"]["vus_pr"]["random_mean"] != other["figures"]["vus_pr"]["random_mean"]


@pytest.mark.parametrize("labels", [None, np.zeros(600, bool)], ids=["no labels", "nothing anomalous"])
def test_without_anomalies_alarms_are_counted(labels: np.ndarray | None) -> None:
    of = replace(recording(), labels=labels)
    report = evaluate_scores(of, *detector_scores(of), 3.0, 5)
    assert "vus_pr" not in report.figures
    assert report.figures["false_alarms_per_day"].value == pytest.approx(3 * 86400 / 595)
    assert report.score_quantiles["1"] > 5
    assert "only alarms can be counted" in said(report)


def test_a_detector_that_finds_nothing_has_no_delay() -> None:
    of = recording()
    report = evaluate_scores(of, *detector_scores(of), 99.0, 5)
    assert report.figures["event_recall"].value == 0
    assert report.figures["delay_median_s"].value is None
    json.dumps(report.to_json(), allow_nan=False)
    assert "0 of 3" in said(report)


def test_an_everlasting_alarm_shows_in_the_report() -> None:
    of = recording()
    samples, scores = detector_scores(of)
    report = evaluate_scores(of, samples, scores + 9, 3.0, 5)
    assert report.figures["event_recall"].value == 1
    assert report.figures["normal_time_in_alarm"].value == 1
    assert report.figures["false_alarms_trailing_per_day"].value > 0  # type: ignore[operator]


def test_a_threshold_that_is_no_number_is_refused() -> None:
    of = recording()
    with pytest.raises(UsageError, match="finite"):
        evaluate_scores(of, *detector_scores(of), float("nan"), 5)


# --- verdicts of a model


def test_an_exported_file_is_scored_as_on_a_device(tmp_path: Path) -> None:
    model = step_file(tmp_path / "student.onnx", hop=4, warmup=12)
    of = recording(starts=(0, 251))
    found = score_model(model, of)
    detector = Detector.load(model)
    expected = []
    for start, end in of.bounds:
        detector = detector.stream()  # cold
        verdicts = [v for row in of.values[start:end] if (v := detector.update(row)) is not None]
        expected += [(start + v.sample, v.score) for v in verdicts]
    assert list(zip(found.samples.tolist(), found.scores.tolist())) == expected
    assert found.samples[0] == 11 and 251 + 11 in found.samples
    np.testing.assert_allclose(found.contributions.sum(axis=1), found.scores, rtol=1e-5)


def test_a_file_of_either_format_is_scored(tmp_path: Path) -> None:
    onnx, tflite = step_file(tmp_path / "one", hop=4), tmp_path / "other"  # known by their content
    tflite.write_bytes(with_manifest(step_tflite(3, 4), 3, 4))
    one, other = score_model(onnx, recording()), score_model(tflite, recording())
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4)
    assert np.array_equal(one.alarms, other.alarms) and one.alarms.any()


def test_sensors_are_matched_by_name(tmp_path: Path) -> None:
    model = step_file(tmp_path / "student.onnx")
    of = recording()
    turned = replace(of, values=np.ascontiguousarray(of.values[:, ::-1]), sensors=of.sensors[::-1])
    assert np.array_equal(score_model(model, of).scores, score_model(model, turned).scores)
    with pytest.raises(RecordingError, match="lacks s0"):
        score_model(model, replace(of, sensors=("pump", "s1", "s2")))


def test_another_sampling_period_is_said(tmp_path: Path) -> None:
    model = step_file(tmp_path / "student.onnx", period_s=60.0)
    assert "60 s" in score_model(model, recording()).notes[0]
    assert not score_model(model, replace(recording(), period_s=60.5)).notes


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("missing.onnx", ModelRefused, "no such file"),
        ("missing.pt", ModelRefused, "no such file"),
        ("other.h5", ModelRefused, "written by edgekd export"),
        ("short.onnx", RecordingError, "shorter than one window"),
    ],
)
def test_what_cannot_be_scored_is_refused(tmp_path: Path, name: str, error: type[EdgeKDError], says: str) -> None:
    step_file(tmp_path / "short.onnx", hop=4, warmup=800)
    (tmp_path / "other.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(error, match=says):
        score_model(tmp_path / name, recording())


# --- the command


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """A labeled CSV that fits the small step graph."""
    of = recording()
    path = tmp_path / "plant.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow((*of.sensors, "label"))
        rows.writerows((*values.tolist(), int(label)) for values, label in zip(of.values, of.labels))  # type: ignore[arg-type]
    return path


def test_evaluate_prints_writes_and_draws(tmp_path: Path, plant: Path) -> None:
    model = step_file(tmp_path / "student.onnx", hop=4, warmup=12)
    scores, plot = tmp_path / "scores.csv", tmp_path / "score.png"
    result = run(model, plant, "--period-s", 1, "--scores", scores, "--plot", plot, "--metrics")
    assert max(map(len, result.stdout.splitlines()[4:])) <= 80
    assert result.stdout.index("faults found") < result.stdout.index("VUS-PR")
    assert "VUS-PR" in result.stdout and "test/small float32" in result.stdout
    assert plot.read_bytes().startswith(PNG)
    with scores.open() as file:
        rows = list(csv.DictReader(file))
    found = score_model(model, recording())
    assert [int(row["sample"]) for row in rows] == found.samples.tolist()
    assert np.array_equal(np.float32([row["score"] for row in rows]), found.scores.astype(np.float32))
    assert [row["anomaly"] == "1" for row in rows] == (found.scores > found.threshold).tolist()


def test_evaluate_json_is_json_alone(tmp_path: Path, plant: Path) -> None:
    model = step_file(tmp_path / "student.onnx")
    printed = json.loads(run(model, plant, "--period-s", 60, "--threshold", 0.7, "--json").stdout)
    assert printed["threshold"] == 0.7 and printed["threshold_rule"] == "given by hand"
    found = score_model(model, recording())
    same = evaluate_scores(recording(), found.samples, found.scores, 0.7, found.hop)
    assert printed["figures"]["vus_pr"]["value"] == same.figures["vus_pr"].value
    assert printed["judgement"]["faults"] == 3 and "faults found" in printed["judgement"]["words"][0]


def test_evaluate_takes_a_student_checkpoint(tmp_path: Path, plant: Path) -> None:
    student, scores = tmp_path / "student.pt", tmp_path / "scores.csv"
    distill = ["distill", str(plant), "-o", str(student), "--method", "linear", "--period-s", "60"]
    CliRunner().invoke(cli, distill, catch_exceptions=False, standalone_mode=False)
    result = run(student, plant, "--period-s", 60, "--scores", scores)
    assert "3 faults decide nothing" in result.stdout and "VUS-PR" not in result.stdout
    assert len(scores.read_text().splitlines()) > 20


def test_files_that_cannot_be_written_are_named(tmp_path: Path, plant: Path) -> None:
    model = step_file(tmp_path / "student.onnx")
    for option, file in (
        ("--plot", "no/such/folder.png"),
        ("--plot", "score.docx"),
        ("--scores", "no/such/folder.csv"),
    ):
        with pytest.raises(UsageError, match=f"{file}: cannot write"):
            run(model, plant, option, tmp_path / file)


# --- pictures


def test_a_single_peak_survives_half_a_million_points() -> None:
    of = replace(recording(500_000, starts=(0, 200_000)), values=np.zeros((500_000, 3), np.float32))
    samples = np.arange(9, 500_000, 10)
    scores = np.random.default_rng(0).random(len(samples))
    scores[31_234] = 50
    x, low, middle, top = _columns(samples, scores, of)
    assert np.nanmax(top) == 50 and abs(x[np.nanargmax(top)] - samples[31_234]) < 500_000 / len(x)
    assert len(x) < 3000 and (low <= middle).all() and (middle <= top).all()


def test_no_line_joins_two_entities() -> None:
    of = recording(starts=(0, 300))
    samples, scores = detector_scores(of)
    x, _, _, top = _columns(samples, scores, of)
    gap = np.flatnonzero(np.isnan(top))
    assert len(gap) == 1 and x[gap[0] - 1] < 300 <= x[gap[0] + 1]


@pytest.mark.parametrize("shape", ["usual", "negative scores", "no alarm", "no labels", "one verdict", "many decades"])
def test_scores_of_every_kind_can_be_drawn(tmp_path: Path, shape: str) -> None:
    of = recording(labeled=shape != "no labels")
    samples, scores = detector_scores(of)
    if shape == "negative scores":
        scores = scores - 8
    if shape == "one verdict":
        samples, scores = samples[:1], scores[:1]
    if shape == "many decades":
        scores = np.where(scores > 3, 1e38, scores)
        scores[0] = 0
    shares = np.outer(scores, [0.5, 0.3, 0.2])
    plot_scores(tmp_path / "a.png", of, samples, scores, 99.0 if shape == "no alarm" else 3.0, shares, "a title")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_an_event_that_slow_alarms_alone_find_is_drawn_as_found(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "write", lambda figure, path: figures.append(figure))
    of = recording()
    samples, scores = detector_scores(of)
    slow = np.full(len(samples), 0.5)
    slow[(samples > 450) & (samples < 520)] = 1.5
    plot_scores("a.png", of, samples, scores, 99.0)
    plot_scores("a.png", of, samples, scores, 99.0, slow=slow)
    without, with_slow = ([text.get_text() for text in figure.axes[0].get_legend().get_texts()] for figure in figures)
    assert {"found (0)", "missed (3)"} < set(without)
    assert {"found (1)", "missed (2)"} < set(with_slow)
    assert [label.get_text() for label in figures[1].axes[1].get_yticklabels()] == ["alarms", "slow alarms"]


def test_quality_against_cost_can_be_drawn(tmp_path: Path) -> None:
    rows = [CostPoint("teacher", 900.0, 0.6, "teacher"), CostPoint("int8", 12.0, 0.59, "student")]
    plot_quality_against_cost(tmp_path / "q.png", rows, random_vus_pr=0.05, title="a machine")
    assert (tmp_path / "q.png").read_bytes().startswith(PNG)
    with pytest.raises(UsageError, match="nothing to draw"):
        plot_quality_against_cost(tmp_path / "q.png", [])
