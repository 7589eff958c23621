"""The methods: a package each, all with the same interface.

`METHODS` is the registry. A method's module has `SYSTEM` (the published system, one line), `PRESETS` and
`DEFAULT_PRESET`, `CONFIG` (its configuration class, with `to_json` and `from_json`), `STEP` (its step module, built as
`STEP(config, n_sensors, n_kept, period_s)`) and `train(recording, config, how)`, see `edgekd.methods.interface`.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from edgekd.runtime.errors import UsageError

METHODS = {
    "lta": "edgekd.methods.lta",
    "linear": "edgekd.methods.linear",
    "regression": "edgekd.methods.regression",
    "anomalyllm": "edgekd.methods.anomalyllm",
    "patches": "edgekd.methods.patches",
}


DEFAULT_METHOD = "lta"


def method_with(preset: str) -> str:
    """The first method that has a preset of this name; raises UsageError where there is none."""
    presets = {name: list(method(name).PRESETS) for name in METHODS}
    for name, known in presets.items():
        if preset in known:
            return name
    words = "; ".join(f"{name} has {', '.join(known)}" for name, known in presets.items())
    raise UsageError(f"there is no preset {preset!r}: {words}")


def method(name: str) -> ModuleType:
    """The module of a method, imported when it is asked for."""
    if name not in METHODS:
        raise UsageError(f"there is no method {name!r}; there are {', '.join(METHODS)}")
    return importlib.import_module(METHODS[name])
