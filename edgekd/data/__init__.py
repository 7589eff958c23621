"""Recordings: read them (`load`), write them (`save`), check that they fit.

`formats.py` lists every format; each family of files has a module of its own name.
"""

from edgekd.data.checks import constant_sensors, require_length, require_same_sensors
from edgekd.data.formats import FORMATS, load, look
from edgekd.data.reading import Reading
from edgekd.data.recording import Recording
from edgekd.data.save import save

__all__ = [
    "FORMATS",
    "Reading",
    "Recording",
    "constant_sensors",
    "load",
    "look",
    "require_length",
    "require_same_sensors",
    "save",
]
