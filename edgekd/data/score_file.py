"""Scores of a teacher from a file: what any scorer at all said of a recording.

Two forms of CSV: with a header that has `sample` and `score`, as `edgekd evaluate --scores` writes (`sample` is the
0-based index of the newest sample that the score has seen), or one score a line for each sample of the recording, with
or without a header.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from edgekd.data.recording import Recording
from edgekd.runtime.errors import UsageError


def read_scores(path: Path, recording: Recording) -> np.ndarray:
    """float64 (T,): the score at each sample, NaN where the file has none.

    Raises UsageError in one line: a file that cannot be read, another length, a score that is no number, scores that
    are all the same.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as scores ({error}); give a CSV") from None
    header = [cell.strip().lower() for cell in lines[0]] if lines else []
    named = "score" in header
    rows, first = (lines[1:], 2) if named else (lines, 1)
    if not named and rows and not _is_number(rows[0][-1]):
        rows, first = rows[1:], 2
    column = header.index("score") if named else 0
    if not named and rows and len(rows[0]) != 1:
        raise UsageError(f"{path}: {len(rows[0])} columns and none is named 'score'; name it in the first line")
    scores = np.array([_number(row, column, path, first + i) for i, row in enumerate(rows)])
    return _placed(scores, rows, header, path, recording)


def _placed(
    scores: np.ndarray, rows: list[list[str]], header: list[str], path: Path, recording: Recording
) -> np.ndarray:
    found = np.full(len(recording), np.nan)
    if "sample" in header:
        column = header.index("sample")
        at = np.array([int(_number(row, column, path, 2 + i)) for i, row in enumerate(rows)], np.int64)
        if len(at) and (at.min() < 0 or at.max() >= len(recording)):
            raise UsageError(
                f"{path}: has a score for sample {at.max()}, but {recording.source} has {len(recording)} samples; "
                "score this recording and no other"
            )
        found[at] = scores
    elif len(scores) != len(recording):
        raise UsageError(
            f"{path}: {len(scores)} scores, but {recording.source} has {len(recording)} samples; give one for each, or "
            "two columns, sample,score"
        )
    else:
        found = scores
    if len(scores) == 0 or np.ptp(scores) == 0:
        raise UsageError(f"{path}: {'all scores are the same' if len(scores) else 'no scores'}; nothing can be learned")
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(row: list[str], column: int, path: Path, line: int) -> float:
    text = row[column] if column < len(row) else ""
    number = float(text) if _is_number(text) else float("nan")
    if not np.isfinite(number):
        raise UsageError(f"{path}: '{text}' in line {line} is no score; give finite numbers, or leave the line out")
    return number
