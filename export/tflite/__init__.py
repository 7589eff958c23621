"""TFLite: a step module as one flatbuffer for LiteRT or the older tflite-runtime, in float or int8."""

from __future__ import annotations

SUFFIX = ".tflite"
