"""Mutations of exported files, as somebody would make them who wants to crash, fill or lead astray a gateway.

`mutants` makes them; the kinds of change stand in `any_file` (bytes and manifests), `onnx_file` and `tflite_file`;
`bench.promises.hostile_models` gives them to `edgekd-run` and judges what it does.
"""

from bench.promises.hostile.mutants import KINDS, Mutant, mutants, still_whole

__all__ = ["KINDS", "Mutant", "mutants", "still_whole"]
