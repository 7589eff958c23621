"""EdgeKD: distill a large anomaly detector into one self-describing file that a sensor gateway runs.

The package imports nothing heavy here: `edgekd.runtime` must start with numpy and one engine alone.
"""

__version__ = "0.1.0"
