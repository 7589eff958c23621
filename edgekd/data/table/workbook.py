"""Workbooks (.xlsx): the first sheet that holds anything, as lines of CSV."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from edgekd.runtime.errors import MissingExtra, UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources.open_file import WORKBOOK


def is_workbook(path: Path) -> bool:
    """Whether a file is one; what else is wrong with it, whoever reads it says."""
    try:
        with zipfile.ZipFile(path) as archive:
            return WORKBOOK in archive.namelist()
    except Exception:  # zipfile's own, of many kinds
        return False


def lines(path: Path) -> Iterator[bytes]:
    """Its rows. Raises UsageError where they cannot be read."""
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtra("openpyxl", "xlsx") from error
    try:
        for sheet in openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets:
            told = False
            for row in sheet.iter_rows(values_only=True):
                line = io.StringIO()
                csv.writer(line, lineterminator="\n").writerow([_cell(value) for value in row])
                told = told or any(value is not None for value in row)
                yield line.getvalue().encode()
            if told:
                return
    except Exception as error:  # of openpyxl, zipfile and XML, of many kinds
        raise UsageError(f"{path}: not a readable workbook ({shown(str(error))}); save it as CSV") from None


def _cell(value: Any) -> str:
    return "" if value is None else value.isoformat(" ") if isinstance(value, datetime) else str(value)
