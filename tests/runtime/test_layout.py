"""The layout as TOML and in the manifest: what is written is what is read, and nothing else is taken."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.data.save import toml_of
from edgekd.export.embed import to_json
from edgekd.runtime.errors import ModelRefused, UsageError
from edgekd.runtime.layout import Layout
from edgekd.runtime.manifest import Manifest
from tests.step_models import step_manifest

names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
layouts = st.builds(
    Layout,
    encoding=st.sampled_from(["", "cp1252", "utf-16"]),
    form=st.sampled_from(["", "table", "json", "pairs", "line protocol"]),
    separator=st.sampled_from(["", ",", ";", "\t", "|", " "]),
    decimal=st.sampled_from(["", ".", ","]),
    names=st.lists(names, max_size=4).map(tuple),
    skip=st.integers(0, 100),
    time=st.lists(names, max_size=2).map(tuple),
    time_format=st.sampled_from(["", "iso", "excel", "elapsed", "none", "%d.%m.%Y %H:%M:%S", "%d/%b/%y %I:%M %p"]),
    missing=st.lists(names, max_size=3).map(tuple),
    only=st.lists(names, max_size=2).map(tuple),
    sort=st.booleans(),
)


@given(layouts)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, layout: Layout) -> None:
    path = tmp_path_factory.mktemp("layout") / "x.toml"
    path.write_text(toml_of(layout), "utf-8")
    assert Layout.from_toml(path) == layout
    manifest = dataclasses.replace(step_manifest(2, 1), layout=layout)
    assert Manifest.from_json(to_json(manifest)) == manifest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("time_format", value) for value in ("%d.%d.%Y", "%Q", "yesterday", "%S" * 40, 7)),
        *(("separator", value) for value in ("ab", "\n", 1)),
        *(("encoding", value) for value in ("rot13", "utf_16\n")),
        *(("names", value) for value in ("time", ["a\nb"], [["a"]])),
        *(("skip", value) for value in (-1, 1.5, True)),
        ("timezone", "../../etc/passwd"),
        ("sort", "yes"),
        ("colour", "blue"),
    ],
)
def test_what_is_no_layout_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    text = to_json(step_manifest(2, 1))
    with pytest.raises(ModelRefused, match=field):
        Manifest.from_json(text.replace('"layout":null', f'"layout":{{"{field}":{json.dumps(value)}}}'))
    (tmp_path / "x.toml").write_text(f"{field} = {json.dumps(value)}\n")
    with pytest.raises(UsageError, match=field) as error:
        Layout.from_toml(tmp_path / "x.toml")
    assert str(error.value).isprintable() and "manifest" not in str(error.value)
