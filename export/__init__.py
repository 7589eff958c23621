"""Student checkpoint to one self-describing file: step graph, int8, parity proof, manifest."""

from edgekd.export.candidate import Candidate
from edgekd.export.exporter import Exported, export

__all__ = ["Candidate", "Exported", "export"]
