"""Mutations of files, as somebody would make them who wants to crash, fill or lead astray a gateway.

`mutants` makes them, of model files; `other_mutants` those of checkpoints, states and outboxes. The kinds of change
stand in `any_file` (bytes and manifests), `onnx_file`, `tflite_file`, `checkpoint_file`, `state_file` and
`outbox_folder`; `bench.promises.hostile_models` gives them to the commands and judges what those do.
"""

from bench.promises.hostile.mutants import KINDS, Mutant, mutants, other_mutants, still_whole

__all__ = ["KINDS", "Mutant", "mutants", "other_mutants", "still_whole"]
