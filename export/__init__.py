"""Student checkpoint to one self-describing file: step graph, int8, parity proof, manifest."""

from edgekd.export.exporter import Exported, export

__all__ = ["Exported", "export"]
