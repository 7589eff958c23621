"""Configuration of LTA: what the paper fixes, what it leaves open, what `edge` does differently, with the reasons."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from edgekd.blocks.signature import Geometry
from edgekd.methods.settings import LONGEST, read_settings
from edgekd.runtime.errors import UsageError

SHORTEST_WINDOW = 10  # samples; below it two of the derived lengths are the same
MATCHED_LEVEL = 1  # zero-based: the attended map of the second recurrent level, in both networks


@dataclass(frozen=True)
class LTAConfig:
    """One detector and its training. Lengths are in samples unless the name says otherwise."""

    # geometry
    window: int = 400
    """Published input length w of the student; 0 takes the lengths from the sampling period (one hour, 20..60)."""
    teacher_window: int = 800
    """Published input length of the teacher; 0 gives it the student's own windows."""
    hop: int = 50
    """Distance between scored windows; ignored with window = 0, where the hop is the shortest length."""
    lengths: tuple[int, int, int] | None = None
    """Window lengths of the three scales, when they are given and not derived from `window`."""
    gap: int = 0
    """Distance between two steps of given lengths; 0 takes the shortest of them."""
    entity_resets: bool = False
    """Clear all state where another entity begins; the paper treats a data set as one stream."""

    # input
    input: str = "samples"
    """"samples" as they are scaled, or their "innovations": what each sensor's own last values do not tell."""
    scaling: str = "minmax"
    """"minmax" (MSCRED's code) or "zscore" of the samples."""
    standardize: str = "none"
    """Signature matrices as they are ("none"), or by each "element"'s or one "global" training deviation."""
    drop_constant: bool = False
    """Keep sensors that are constant in training out of the matrices."""

    # network
    levels: int = 2
    channels: int = 32
    """Channels of the first level, doubled at the second; 0 takes the widest whose state stays within 256 KiB."""
    separable: bool = False
    """Depthwise-separable gates."""
    output: str = "selu"
    """Activation of the last layer: "selu" as published, "linear" where targets go below -1.76."""
    bypass: int = 0
    """Principal components of the matrices past the network, which learns what they leave: it starts as the linear
    detector of the same matrices; 0 for none."""
    attention_scale: float = 5.0
    """chi; 0 takes the square root of the elements of a map, since the published 5 is one-hot at any size."""
    recurrence: str = "windowed"
    """"windowed": ConvLSTM from zero over five steps; "carried": one step a hop, state kept."""
    attention_steps: int = 5
    """Hidden maps that a carried student attends over; each costs a map of state, 1 costs none."""
    target: str = "newest"
    """Reconstruct the "newest" matrices, or predict the "next" ones."""

    # accumulator
    accumulator: str = "rnn"
    """"none", "rnn", "lstm" or "gru"."""
    lts: str = "per_variable"
    """How the summary becomes a matrix, see `Accumulator`."""
    beta: str = "window"
    """One matrix of the summary for all steps of a "window", or "per_step" that of the summary at each step's time."""
    feed: str = "once"
    """The accumulator reads every sample "once", or at every hop the whole teacher-length "window" again."""

    # loss
    distill: bool = True
    distill_weight: float = 0.5
    """lambda, published as sampled in [0.3, 0.7]."""
    matched_hops: int = 1
    """The teacher's map is matched on every so-manyth hop; published is each. The others reconstruct alone."""
    loss: str = "mse"
    """"mse" or "huber" (standardized targets have heavy tails)."""
    target_gradient: bool = False
    """Let the accumulator learn through the target too, which it may make easier: the published formula as printed."""

    # score
    score: str = "top"
    """"top": mean of the top 1 % squared residuals of the shortest scale; "variance": all, by training variance."""
    committee: bool = False
    """Join the student with the committee of innovations (`edgekd.methods.linear.innovations`)."""
    mahalanobis: bool = False
    """Combine the residual with the Mahalanobis distance of the newest samples (geometric mean)."""
    judged: tuple[str, ...] | None = None
    """Names of the sensors whose residual is the score, None for all; the others are context that the network sees.
    Commands and set points do not fail: where they are many, what they do hides what the measured sensor does."""
    memory: int = 1
    """Time constant, in hops, of a moving average of the log score: what lasts is told from what only peaks. 1 keeps
    none; faults that are over within a few hops need that."""
    slow: bool = False
    """Watch for slow faults too (`edgekd.blocks.slow`), where the recording shows what is normal for them."""
    cycle_hops: int = 0
    """Length of the cycle that the slow monitors found; training sets it."""

    # training
    epochs: int = 50
    updates: int = 0
    """At least so many optimizer steps, in as many epochs more: a short recording has few an epoch."""
    teacher_epochs: int = 50
    patience: int = 8
    learning_rate: float = 2e-4
    teacher_learning_rate: float = 1e-3
    schedule: str = "constant"
    """"constant" as published, or "one-cycle"."""
    lanes: int = 16
    truncate_hops: int = 8
    """Hops of truncated back-propagation through the accumulator."""
    training_hop: int = 10
    """Distance between training windows of a windowed network."""
    teacher_batch: int = 32
    teacher_hop: int = 10
    teacher_windows: int = 0
    """At most so many training windows an epoch of the teacher, drawn anew each time; 0 takes all."""
    clip_norm: float = 1.0
    precision: str = "auto"
    """Of the convolutions in training: "float32", "bf16", or bf16 where the processor has AMX."""

    def geometry(self, period_s: float) -> Geometry:
        """Windows of the student at a sampling period; a carried student sees one step at a time."""
        steps = 1 if self.recurrence == "carried" else 5
        if self.lengths is not None:
            gap = self.gap or min(self.lengths)
            return Geometry(self.lengths, gap, steps, self.hop or gap)
        if self.window:
            geometry = Geometry.from_window(self.window, self.hop)
            return replace(geometry, steps=steps)
        return Geometry.from_period(period_s, steps)

    def teacher(self) -> LTAConfig:
        """The teacher that belongs to this student: the published network on the student's inputs."""
        return replace(
            self,
            window=(self.teacher_window or self.window) if self.window else 0,
            levels=4,
            channels=32,
            separable=False,
            recurrence="windowed",
            accumulator="none",
            distill=False,
            committee=False,
            slow=False,
            epochs=self.teacher_epochs,
            learning_rate=self.teacher_learning_rate,
            training_hop=self.teacher_hop,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LTAConfig:
        """Settings by name over the published ones; raises UsageError naming the one that cannot be."""
        config = read_settings(cls, "lta", values, CHOICES, RANGES)
        for name in ("window", "teacher_window"):
            if 0 < getattr(config, name) < SHORTEST_WINDOW:
                raise UsageError(f"setting {name}: three scales need at least {SHORTEST_WINDOW} samples, or 0")
        if config.window and not config.lengths and not config.hop:
            raise UsageError("setting hop: a given window needs a hop of at least 1")
        if config.distill and config.levels <= MATCHED_LEVEL:
            raise UsageError(f"setting levels: distillation matches level {MATCHED_LEVEL + 1}; set distill=false")
        return config


CHOICES = {
    "input": ("samples", "innovations"),
    "scaling": ("minmax", "zscore"),
    "standardize": ("none", "element", "global"),
    "output": ("selu", "linear"),
    "recurrence": ("windowed", "carried"),
    "target": ("newest", "next"),
    "accumulator": ("none", "rnn", "lstm", "gru"),
    "lts": ("per_variable", "vector", "pseudo_window"),
    "beta": ("window", "per_step"),
    "feed": ("once", "window"),
    "loss": ("mse", "huber"),
    "score": ("top", "variance"),
    "schedule": ("constant", "one-cycle"),
    "precision": ("auto", "float32", "bf16"),
}

RANGES = {
    "window": (0, LONGEST), "teacher_window": (0, LONGEST), "hop": (0, LONGEST), "gap": (0, LONGEST),
    "training_hop": (0, LONGEST), "teacher_hop": (0, LONGEST), "levels": (1, 4), "channels": (0, 1024),
    "attention_scale": (0.0, 1e6), "attention_steps": (1, 64), "distill_weight": (0.0, 1.0), "matched_hops": (1, 4096),
    "epochs": (1, 100_000), "teacher_epochs": (1, 100_000), "patience": (1, 100_000), "learning_rate": (1e-8, 10.0),
    "teacher_learning_rate": (1e-8, 10.0), "lanes": (1, 4096), "truncate_hops": (1, 4096), "teacher_batch": (1, 4096),
    "teacher_windows": (0, 10_000_000), "updates": (0, 10_000_000), "clip_norm": (1e-6, 1e6), "memory": (1, LONGEST),
    "bypass": (0, 4096), "cycle_hops": (0, LONGEST),
}  # fmt: skip

PAPER = LTAConfig()

EDGE = LTAConfig(
    window=0,
    teacher_window=0,
    hop=0,
    entity_resets=True,
    scaling="minmax",
    standardize="element",
    drop_constant=True,
    channels=0,
    separable=True,
    output="linear",
    attention_scale=0.0,
    recurrence="carried",
    attention_steps=1,
    accumulator="gru",
    matched_hops=4,
    loss="huber",
    score="variance",
    mahalanobis=True,
    epochs=15,
    teacher_epochs=2,
    patience=15,
    learning_rate=1e-3,
    schedule="one-cycle",
    lanes=8,
    training_hop=0,
    teacher_batch=8,
    teacher_hop=30,
)

QUICK = replace(EDGE, epochs=6, teacher_epochs=1, teacher_hop=40)

# of the student more epochs, up to 15, changed nothing on dev data
JOINT = replace(
    EDGE, input="innovations", committee=True, slow=True, epochs=6,
    teacher_epochs=1, teacher_hop=0, teacher_windows=400, teacher_batch=4,
)  # fmt: skip

PRESETS = {"joint": JOINT, "quick": QUICK, "edge": EDGE, "paper": PAPER}
