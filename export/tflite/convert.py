"""A step module as one float TFLite model: `samples`, `valid` and each state in, score and next state out."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from importlib.util import find_spec

import torch

from edgekd.blocks.step import StepModule
from edgekd.export.tflite.flatbuffer import tidied
from edgekd.export.tflite.rewrites import StepByName
from edgekd.runtime.engines.imports import hushed
from edgekd.runtime.errors import MissingExtra

SIGNATURE = "step"


def float_file(step: StepModule) -> bytes:
    """Convert with litert-torch, then strip what the file tells of the program that was converted.

    Every state gets an example tensor of its own, so that no two of them are taken for one. Raises MissingExtra.
    """
    if find_spec("litert_torch") is None:
        raise MissingExtra("litert-torch", "tflite-export")
    generator = torch.Generator().manual_seed(0)
    examples = {
        "samples": torch.rand(step.hop, step.n_sensors, generator=generator),
        "valid": torch.ones(step.n_sensors),
        **{name: torch.rand(shape, generator=generator) for name, shape in step.state_shapes().items()},
    }
    with quiet():
        import litert_torch

        shown, litert_torch.config.show_progress = litert_torch.config.show_progress, False
        try:
            converted = litert_torch.signature(SIGNATURE, StepByName(step).eval(), sample_kwargs=examples).convert()
            model = converted.model_content()
        finally:
            litert_torch.config.show_progress = shown
    return tidied(model)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The converter and what it stands on talk of packages that are not needed here; what goes wrong is raised."""
    with hushed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
