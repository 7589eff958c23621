"""A student that begins as that of its type: less to train, its own scaling, and one graph for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording
from edgekd.distillation import distill, teacher_path
from edgekd.export.onnx import float_model, template
from edgekd.fleet.work import on_one_scale
from edgekd.runtime.errors import UsageError
from edgekd.simulation.simulate import simulate

QUICK = {"epochs": 1, "teacher_windows": 8, "slow": False}


def machine(seed: int, offset: float = 0.0) -> Recording:
    plant = simulate(1600, sensors=3, seed=seed, faults=()).recording
    return Recording(plant.values + np.float32(offset), plant.sensors, plant.period_s)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shared") / "student.pt"
    distill(on_one_scale([machine(0), machine(1, 40.0)]), path, settings=QUICK, device="cpu")
    return path


def test_machines_of_a_type_come_on_one_scale() -> None:
    joined = on_one_scale([machine(0), machine(1, 40.0)])
    one, other = joined.split()
    np.testing.assert_allclose(other.values.mean(0), one.values.mean(0), rtol=1e-3)
    np.testing.assert_allclose(other.values.std(0), one.values.std(0), rtol=1e-3)
    assert len(joined.starts) == 2


def test_a_type_s_network_gets_each_machine_s_own_scaling(shared: Path, tmp_path: Path) -> None:
    found = distill(
        machine(2, 1000.0), tmp_path / "s.pt", settings=QUICK, shared=shared, frozen=True, device="cpu"
    )  # fmt: skip
    before, after = Checkpoint.load(shared).weights, found.weights
    network = [name for name in after if ".network.network." in name or "accumulator" in name]
    assert network and all(bool((before[name] == after[name]).all()) for name in network)
    assert not (before["members.network.scaler.offset"] == after["members.network.scaler.offset"]).any()
    assert found.threshold["value"] != Checkpoint.load(shared).threshold["value"]


def test_a_machine_goes_on_from_its_type(shared: Path, tmp_path: Path) -> None:
    jobs = set()

    def report(event: dict[str, object]) -> None:
        jobs.add(event.get("job"))

    how = {"settings": QUICK, "shared": shared, "teacher": teacher_path(shared), "device": "cpu"}
    one = distill(machine(2), tmp_path / "one.pt", report=report, **how)  # type: ignore[arg-type]
    other = distill(machine(2), tmp_path / "other.pt", **how)  # type: ignore[arg-type]
    assert jobs == {None, "student"}
    assert one.digest() == other.digest() != Checkpoint.load(shared).digest()


def test_what_begins_with_nothing_says_so(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="linear begins with no shared student"):
        distill(machine(2), tmp_path / "s.pt", preset="innovations", shared=shared)


def test_one_graph_serves_all_machines_of_a_type(tmp_path: Path) -> None:
    import onnxruntime as ort

    outputs = []
    for seed in (1, 2):
        step = distill(machine(seed), tmp_path / f"{seed}.pt", preset="mahalanobis").step()
        generator = np.random.default_rng(seed)
        feeds = {name: generator.random(shape, np.float32) for name, shape in step.state_shapes().items()}
        feeds |= {"samples": machine(seed).values[: step.hop], "valid": np.ones(3, np.float32)}
        for content in (float_model(step), template.float_model(step)):
            outputs.append(ort.InferenceSession(content).run(None, feeds))
    assert len([found for found in template._known.values() if found is not None]) >= 1
    for plain, filled in (outputs[:2], outputs[2:]):
        assert all(np.array_equal(one, other) for one, other in zip(plain, filled))
    assert not np.array_equal(outputs[1][0], outputs[3][0])
