"""Configuration of AnomalyLLM: what its public code fixes, what it leaves open, what `edge` does differently.

Source: arXiv 2401.15123. Its configuration files are not public: sizes without a source are defaults of this project.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from edgekd.methods.settings import LONGEST, read_settings
from edgekd.runtime.errors import UsageError

FULL, MINI = "full", "mini"
PRETRAINED, RANDOM, SMALL = "pretrained", "random-frozen", "small-from-scratch"
GPT2, MINILM = "gpt2", "minilm"
SHAPES = {GPT2: (768, 12), MINILM: (384, 12)}  # width and heads of the language models as they are published
SMALL_SHAPE, SMALL_BLOCKS = (64, 4), 2  # of a teacher of the student's size


@dataclass(frozen=True)
class AnomalyLLMConfig:
    """One detector and its training. Lengths are in samples unless the name says otherwise."""

    tier: str = FULL
    """"full": the language model and the student, as published; "mini": a third network of the student's size takes the
    language model's place. The third tier, a score alone, is method `regression` with such a detector as its teacher.
    """

    # windows
    window: int = 64
    hop: int = 4
    """Distance between scored windows; 16 costs a quarter of 4 and tells at most 12 samples later."""
    entity_resets: bool = True
    scaling: str = "zscore"
    """"zscore" of the samples as published (of the training part alone), or "minmax"."""
    drop_constant: bool = True
    """Keep sensors that are constant in training out of the input."""

    # teacher
    backbone: str = GPT2
    """"gpt2", or "minilm" (BERT's architecture), whose weights are to be had as a Python package."""
    teacher_init: str = PRETRAINED
    """"pretrained" language weights; "random-frozen", the same network as it begins; "small-from-scratch", one of the
    student's size whose weights all train. The method's claim is about the first."""
    weights: str = ""
    """Folder of a model as `transformers` saves it; empty takes the user's cache (gpt2) or the package (minilm)."""
    blocks: int = 0
    """G, the first blocks that are used; 0 takes six, and two of the small one."""
    width: int = 0
    """Of a block; 0 takes what the weights have, 64 of the small one."""
    heads: int = 0
    """Of its attention; 0 as above."""
    patch: int = 16
    """Samples of a patch, fixed in the public code."""
    patch_stride: int = 8
    features: int = 0
    """d_ff, features of a block's output that are kept, from the first; 0 keeps all."""
    outputs: int = 32
    """P, length of the vectors that are compared."""
    tuning: str = "norms"
    """What of a language model trains: "norms" (with positions, patch embedding and output, as published),
    "norms+feedforward", or the "output" alone: then its forward pass is computed once for each window and kept."""
    dropout: float = 0.1
    """Of both patch embeddings."""

    # student
    prototypes: bool = True
    """Show the student the normal prototype that is nearest to the window."""
    proto_mode: str = "normalized"
    """"normalized": the pool is compared, and shown, instance-normalized; "reference": the public code, which compares
    a normalized window with a raw pool and scales what it found by the window's statistics."""
    pool: int = 32
    """N, prototypes of each sensor."""
    pool_init: str = "kmeans"
    """"kmeans" centers of the training windows, or "random" rows of unit norm."""
    student_patch: int = 8
    student_width: int = 64
    student_heads: int = 4
    student_hidden: int = 128
    student_layers: int = 2
    head: str = "auto"
    """"published", which grows with the square of the sensors, or "compact"; "auto" is published for one sensor."""
    head_norm: str = "normal-batch"
    """Of the published head: "batch" statistics of all rows, of the normal rows alone, which are all that is seen after
    training, or "layer"."""

    # synthetic anomalies
    synthetic: bool = True
    """Show both networks damaged windows; without them nothing keeps the student from following the teacher."""
    anomalies: str = "default"
    """"reference": scaling and jitter, the published two; "default": one of eight kinds each, drawn anew."""
    scale_spread: float = 0.8
    """Deviation of the factors of point-wise scaling around 2: 0.8 for the univariate archive, 1.1 for KPI data."""
    jitter_spread: float = 0.2
    draws: int = 0
    """Damaged copies that are made beforehand and met in turn, epoch after epoch; 0 draws anew for every batch."""

    # losses
    kd_weight: float = 1.0
    """omega1."""
    contrast_weight: float = 0.1
    """omega2."""
    kd_stop_teacher: bool = False
    """Keep the teacher from moving toward the student."""
    one_class: str = "mean"
    """"mean" of all rows, or the "soft-boundary" around a radius."""
    nu: float = 0.1
    """Share of the rows beyond the soft boundary."""
    radius_epochs: int = 5
    """Epochs before the soft boundary's radius follows the rows."""
    guard_spread: float = 0.05
    """Where the teacher's vectors deviate by less than this over a batch, they are pushed apart ..."""
    guard_weight: float = 0.1
    """... by a hinge on their deviation with this weight."""

    # training
    epochs: int = 50
    updates: int = 0
    """At least so many batches, in as many epochs more: a short recording has few an epoch, and both networks need some
    hundred to learn anything."""
    patience: int = 10
    """Epochs without a better one that end the training, where `updates` asks for no more of them."""
    mini_epochs: int = 50
    learning_rate: float = 3e-4
    beta2: float = 0.99
    weight_decay: float = 5e-4
    schedule: str = "plateau"
    """"plateau": a tenth of the rate where the training loss has stalled for `plateau_epochs`; "constant" or
    "one-cycle"."""
    plateau_epochs: int = 10
    batch: int = 512
    """Normal windows of a batch; as many damaged ones come on top, twice."""
    training_hop: int = 0
    """Distance between training windows; 0 takes `hop`."""
    windows: int = 0
    """Most windows that train, spread evenly over the recording; 0 takes all."""
    precision: str = "auto"
    """Of the language model in training: "float32", "bf16", or bf16 where the processor has AMX."""

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Width, heads and number of the teacher's blocks."""
        small = self.teacher_init == SMALL
        width, heads = SMALL_SHAPE if small else SHAPES[self.backbone]
        return self.width or width, self.heads or heads, self.blocks or (SMALL_BLOCKS if small else 6)

    @property
    def patches(self) -> int:
        """Tokens that the teacher sees of one window."""
        return (self.window - self.patch) // self.patch_stride + 2

    @property
    def cached(self) -> bool:
        """Whether the teacher's blocks never change, so that a window passes them once."""
        return self.tuning == "output" and self.teacher_init != SMALL

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> AnomalyLLMConfig:
        """Settings by name over the published ones; raises UsageError naming the one that cannot be."""
        config = read_settings(cls, "anomalyllm", values, CHOICES, RANGES)
        width, heads, _ = config.sizes
        if config.patch > config.window:
            raise UsageError(f"setting patch: {config.patch} samples do not fit a window of {config.window}")
        if config.window % config.student_patch:
            raise UsageError(f"setting student_patch: {config.student_patch} does not divide window={config.window}")
        if width % heads or config.student_width % config.student_heads:
            name = "heads" if width % heads else "student_heads"
            raise UsageError(f"setting {name}: the heads do not divide the width; give a divisor")
        if config.features > width:
            raise UsageError(f"setting features: {config.features} of a width of {width}")
        if config.cached and not config.draws and config.synthetic:
            raise UsageError("setting draws: tuning=output keeps the teacher's features, so damage is drawn beforehand")
        return config


CHOICES = {
    "tier": (FULL, MINI),
    "scaling": ("zscore", "minmax"),
    "backbone": (GPT2, MINILM),
    "teacher_init": (PRETRAINED, RANDOM, SMALL),
    "tuning": ("norms", "norms+feedforward", "output"),
    "proto_mode": ("normalized", "reference"),
    "pool_init": ("kmeans", "random"),
    "head": ("auto", "published", "compact"),
    "head_norm": ("normal-batch", "batch", "layer"),
    "anomalies": ("default", "reference"),
    "one_class": ("mean", "soft-boundary"),
    "schedule": ("plateau", "constant", "one-cycle"),
    "precision": ("auto", "float32", "bf16"),
}

RANGES = {
    "window": (4, 4096), "hop": (1, LONGEST), "blocks": (0, 48), "width": (0, 4096), "heads": (0, 64),
    "patch": (1, 4096), "patch_stride": (1, 4096), "features": (0, 4096), "outputs": (1, 4096), "dropout": (0.0, 0.9),
    "pool": (1, 4096), "student_patch": (1, 4096), "student_width": (2, 4096), "student_heads": (1, 64),
    "student_hidden": (1, 16_384), "student_layers": (1, 48), "scale_spread": (0.0, 10.0), "jitter_spread": (0.0, 10.0),
    "draws": (0, 64), "kd_weight": (0.0, 1e3), "contrast_weight": (0.0, 1e3), "nu": (1e-3, 1.0),
    "radius_epochs": (0, 100_000), "guard_spread": (0.0, 10.0), "guard_weight": (0.0, 1e3), "epochs": (1, 100_000),
    "updates": (0, 10_000_000),
    "patience": (1, 100_000), "mini_epochs": (1, 100_000), "learning_rate": (1e-8, 10.0), "beta2": (0.0, 0.99999),
    "weight_decay": (0.0, 1.0), "plateau_epochs": (1, 100_000), "batch": (2, 65_536), "training_hop": (0, LONGEST),
    "windows": (0, 10_000_000),
}  # fmt: skip

PUBLISHED = AnomalyLLMConfig()

# A fixed feature extractor instead of a tuned one: hours become minutes on one core. However short the recording, both
# networks get the updates that they need; prototypes as in the public code (docs/results/anomalyllm.md tells what these
# bring).
EDGE = replace(
    PUBLISHED,
    backbone=MINILM,
    hop=16,
    patch_stride=16,
    tuning="output",
    proto_mode="reference",
    draws=4,
    epochs=20,
    updates=1000,
    patience=20,
    mini_epochs=20,
    learning_rate=1e-3,
    schedule="one-cycle",
    batch=64,
    training_hop=4,
    windows=1024,
)

QUICK = replace(EDGE, draws=2, epochs=8, updates=600, mini_epochs=8, batch=32, windows=512)

PRESETS = {"published": PUBLISHED, "edge": EDGE, "quick": QUICK}
