"""A student of images as an exported file: the same scores from a whole image, its rows, a folder or a pipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from device import events_of, run
from step_models import step_file

from edgekd.data import Recording
from edgekd.runtime.detector import Detector
from edgekd.runtime.errors import UsageError

ROWS, COLUMNS = 8, 12
SETTINGS = {"epochs": 1, "teacher_epochs": 1, "batch": 16, "teacher_batch": 16, "student": "our-S3", "rows": ROWS}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """uint8 (120, 8, 12): blobs on noise."""
    draw = np.random.default_rng(5)
    found = draw.integers(0, 90, (120, ROWS, COLUMNS))
    found[:, 2:6, 4:9] += draw.integers(60, 160, (120, 1, 1))
    return found.astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, images: np.ndarray) -> Path:
    """float32.onnx and int8.onnx of a student, s.pt."""
    from edgekd.checkpoint import Checkpoint
    from edgekd.distillation import distill
    from edgekd.export import export

    folder = tmp_path_factory.mktemp("images")
    values = images.reshape(-1, COLUMNS).astype(np.float32)
    names = tuple(f"c{i}" for i in range(COLUMNS))
    recording = Recording(values=values, sensors=names, period_s=1.0, source="blobs", frame=ROWS)
    distill(recording, folder / "s.pt", method="regression", settings=SETTINGS)
    kept = Checkpoint.load(folder / "s.pt")
    export(kept, folder / "float32.onnx", steps=50)
    export(kept, folder / "int8.onnx", int8="default", steps=50, force=True)  # untrained as it is, ranks may differ
    return folder


def scores_in_torch(folder: Path, images: np.ndarray) -> np.ndarray:
    from edgekd.checkpoint import Checkpoint

    step = Checkpoint.load(folder / "s.pt").step()
    with torch.inference_mode():
        return np.array(
            [float(step(torch.from_numpy(image.astype(np.float32)), torch.ones(COLUMNS))[0]) for image in images]
        )


def test_a_whole_image_scores_as_its_rows_and_as_in_torch(folder: Path, images: np.ndarray) -> None:
    expected = scores_in_torch(folder, images[:20])
    detector = Detector.load(folder / "float32.onnx")
    assert detector.image == (ROWS, COLUMNS)
    whole = [detector.update(image) for image in images[:20]]
    detector.reset()
    by_row = [detector.update(row) for row in images[:20].reshape(-1, COLUMNS)]
    verdicts = [verdict for verdict in by_row if verdict is not None]
    assert [verdict.score for verdict in verdicts] == [verdict.score for verdict in whole if verdict is not None]
    np.testing.assert_allclose([verdict.score for verdict in verdicts], expected, rtol=1e-4)
    for verdict in verdicts:
        assert verdict.contributions.sum() == pytest.approx(verdict.score, rel=1e-5)


def test_the_last_layer_of_an_int8_student_stays_in_float(folder: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(folder / "int8.onnx").graph
    quantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    gemm = next(node for node in graph.node if node.op_type == "Gemm")
    assert gemm.input[1] not in quantized
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 4 and all(node.input[1] in quantized for node in convolutions)


@pytest.mark.parametrize("shape", [(ROWS, COLUMNS + 1), (COLUMNS, ROWS), (ROWS - 1, COLUMNS), (1, ROWS, COLUMNS), ()])
def test_an_image_of_the_wrong_size_is_one_line_and_changes_nothing(folder: Path, shape: tuple[int, ...]) -> None:
    detector = Detector.load(folder / "float32.onnx", check=False)
    with pytest.raises(
        UsageError, match=r"an image of this model has shape \(8, 12\), rows and columns; got .*crop it"
    ):
        detector.update(np.zeros(shape, np.float32))
    assert detector.samples_seen == 0
    detector.update(np.zeros(COLUMNS))
    with pytest.raises(UsageError, match="1 rows of an image were given one by one"):
        detector.update(np.zeros((ROWS, COLUMNS)))


def test_a_series_takes_no_images(tmp_path: Path) -> None:
    detector = Detector.load(step_file(tmp_path / "series.onnx", 3, 4))
    assert detector.image is None
    with pytest.raises(UsageError, match="a sample has 3 values"):
        detector.update(np.zeros((4, 3)))
    ended = run("--model", tmp_path / "series.onnx", "--frames", tmp_path)
    assert ended.returncode == 2 and "--frames: this model takes a series, not images" in ended.stderr


# -- edgekd-run --------------------------------------------------------------------------------------------------------


def write_frames(folder: Path, images: np.ndarray) -> Path:
    """The images in every kind of file that is read."""
    folder.mkdir()
    for number, image in enumerate(images):
        at = folder / f"{number:03}"
        kind = number % 5
        if kind == 0:
            np.save(at.with_suffix(".npy"), image)
        elif kind == 1:
            at.with_suffix(".pgm").write_bytes(b"P5\n# a comment\n%d %d\n255\n" % (COLUMNS, ROWS) + image.tobytes())
        elif kind == 2:
            text = "\n".join(" ".join(map(str, row)) for row in image)
            at.with_suffix(".pgm").write_text(f"P2 {COLUMNS} {ROWS} 255\n{text}\n")
        elif kind == 3:
            at.with_suffix(".raw").write_bytes(image.tobytes())
        else:
            at.with_suffix(".bin").write_bytes(image.astype("<f4").tobytes())
    (folder / "readme.txt").write_text("not an image")
    return folder


def test_a_folder_and_a_pipe_score_as_torch_and_each_anomaly_is_told(
    folder: Path, tmp_path: Path, images: np.ndarray
) -> None:
    few = images[:15]
    expected = scores_in_torch(folder, few)
    threshold = float(np.sort(expected)[-4:-2].mean())
    model = ["--model", folder / "float32.onnx", "--scores", "--threshold", threshold]
    files = run(*model, "--frames", write_frames(tmp_path / "frames", few))
    assert files.returncode == 0, files.stderr
    told = events_of(files.stdout, "score")
    np.testing.assert_allclose([event["score"] for event in told], expected, rtol=1e-4)
    assert [event["frame"][:3] for event in told] == [f"{number:03}" for number in range(15)]
    anomalies = events_of(files.stdout, "anomaly")
    assert [int(event["frame"][:3]) for event in anomalies] == np.flatnonzero(expected > threshold).tolist()
    assert not events_of(files.stdout, "rate_mismatch") and "15 samples, 15 verdicts" in files.stderr

    for kind, data in (("8x12", few.tobytes()), ("8x12:float32", few.astype("<f4").tobytes())):
        source = tmp_path / "pipe"
        source.write_bytes(data + b"cut")
        with source.open("rb") as pipe:
            piped = run(*model, "--stdin", "--raw", kind, stdin=pipe)
        assert piped.returncode == 0, piped.stderr
        assert [event["score"] for event in events_of(piped.stdout, "score")] == [event["score"] for event in told]
        assert "the last image is cut short, 3 of" in events_of(piped.stdout, "bad_lines")[0]["reason"]


def test_frames_go_on_after_the_saved_state(folder: Path, tmp_path: Path, images: np.ndarray) -> None:
    frames = write_frames(tmp_path / "frames", images[:6])
    model = ["--model", folder / "float32.onnx", "--scores", "--frames", frames, "--state", tmp_path / "state"]
    assert len(events_of(run(*model).stdout, "score")) == 6
    np.save(frames / "900.npy", images[6])
    assert [event["frame"] for event in events_of(run(*model).stdout, "score")] == ["900.npy"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.pgm", b"P5 3 3 255\n" + bytes(9), "is 3 x 3, the model takes images of 8 x 12"),
        ("a.pgm", b"P5 12 8 255\n" + bytes(90), "is cut short, 90 of 96 pixels"),
        ("a.pgm", b"P6 12 8 255\n" + bytes(288), "is no PGM picture"),
        ("a.raw", bytes(95), "has 95 bytes, an image of 8 x 12 has 96 (or 384 as float32)"),
        ("a.npy", b"no array", "cannot be read"),
    ],
)
def test_a_bad_image_is_counted_among_others(
    folder: Path, tmp_path: Path, images: np.ndarray, name: str, content: bytes, says: str
) -> None:
    from edgekd.runtime.sources.images import FrameFiles

    (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "z.npy", images[1])
    np.save(tmp_path / "0.npy", images[0])
    source = FrameFiles(tmp_path, (ROWS, COLUMNS))
    assert [item.frame for items in source for item in items if not hasattr(item, "event")] == ["0.npy", "z.npy"]
    assert source.rows.bad == 1 and says in source.rows.last_bad


def test_bad_images_alone_end_with_a_line(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "small.npy", np.zeros((3, 3)))
    done = run("--model", folder / "float32.onnx", "--frames", tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "holds no samples (small.npy is 3 x 3, the model takes images of 8 x 12)" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--stdin --raw 28x28", "--raw 28x28: the model takes images of 8 x 12"),
        ("--stdin --raw 8x12:int4", "write rows and columns, as in 28x28 or 28x28:float32"),
        ("--frames nowhere", "nowhere: No such file or directory"),
        ("--frames .", "holds no images"),
        ("--csv x.csv --raw 8x12", "--raw goes with --stdin"),
        ("--frames . --record r.csv", "--record writes rows of a series"),
    ],
)
def test_usage(folder: Path, tmp_path: Path, arguments: str, says: str) -> None:
    arguments = arguments.replace("--frames .", f"--frames {tmp_path}")
    ended = run("--model", folder / "float32.onnx", *arguments.split())
    assert ended.returncode == 2 and says in ended.stderr
