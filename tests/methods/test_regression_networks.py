"""The students and the teacher of score regression have the published or stated sizes, for every kind of input."""

from __future__ import annotations

import pytest
import torch

from edgekd.methods.regression import Student, Teacher
from edgekd.methods.regression.networks import LADDER, parameters
from edgekd.methods.regression.score_scale import LogScale
from edgekd.runtime.errors import UsageError

PARAMETERS = [293, 729, 4_073, 16_145, 16_729, 42_577, 135_281]


@pytest.mark.parametrize(("name", "count"), list(zip(LADDER, PARAMETERS)))
def test_students_have_the_stated_parameters(name: str, count: int) -> None:
    assert parameters(Student(name)) == count


@torch.inference_mode()
def test_the_teacher_has_the_stated_parameters_and_gives_an_image_back() -> None:
    teacher = Teacher()
    assert parameters(teacher) == 474_273
    assert teacher(torch.rand(2, 1, 28, 28)).shape == (2, 1, 28, 28)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (3, 5, 5), (3, 1, 1), (8, 60), (2, 7)])
@pytest.mark.parametrize("name", LADDER)
@torch.inference_mode()
def test_every_student_takes_every_shape(name: str, shape: tuple[int, ...]) -> None:
    assert Student(name, shape)(torch.rand(3, *shape)).shape == (3,)


@torch.inference_mode()
def test_strange_inputs_do_not_tie_where_the_hidden_layer_is_off() -> None:
    student = Student("our-S3")
    assert student.hidden is not None and student.hidden.bias is not None
    student.hidden.bias.fill_(-100.0)  # what a student learns that has seen nothing strange: large inputs turn it off
    assert len(student(torch.rand(50, 1, 28, 28)).unique()) > 45


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(UsageError, match="no student 'S3'; there are our-S1"):
        Student("S3")
    with pytest.raises(UsageError, match="multiples of 4; crop or pad"):
        Teacher((1, 30, 28))


def test_scores_go_to_the_log_scale_and_back_and_stay_finite() -> None:
    scale = LogScale()
    scores = torch.rand(500).exp()
    scale.fit(scores)
    y = scale.standardize(scores)
    assert abs(float(y.mean())) < 1e-4 and abs(float(y.std()) - 1) < 1e-2
    torch.testing.assert_close(scale.score(y), scores)
    assert torch.isfinite(scale.score(torch.tensor([-1e30, 0.0, 1e30]))).all()
