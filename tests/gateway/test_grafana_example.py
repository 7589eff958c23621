"""`examples/grafana`: its dashboard asks for metrics that the gateway has, from data sources that are provisioned."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from device import ROOT

from edgekd.runtime.gateway.watchers.metrics import Metrics

yaml = pytest.importorskip("yaml")
FOLDER = ROOT / "examples" / "grafana"
BOARD = json.loads((FOLDER / "dashboards" / "edgekd.json").read_text())


def exported() -> dict[str, set[str]]:
    """Every name that a scrape can have, of a gateway that has everything: slow scores, sinks, a model on trial; and
    the labels that it has there."""
    pytest.importorskip("prometheus_client")
    life, fan_out = MagicMock(), MagicMock()
    loop = life.loop
    loop.detector.manifest.names = loop.detector.missing_sensors = ("a",)
    loop.detector.held_values = {}
    outlet = MagicMock()
    outlet.name = "exec"
    fan_out.outlets = [outlet]
    fan_out.several = True
    metrics = Metrics(fan_out)
    for name in ("a", "b"):
        metrics.watch(name, life)
        loop.watchers.insert.call_args[0][1].arrived([MagicMock()])
    families = list(metrics.collect())
    assert len({family.name for family in families}) == len(families)
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def values_of(key: str, inside: Any) -> Iterator[Any]:
    """Whatever stands under this key, however deep."""
    if isinstance(inside, dict):
        yield from (value for name, value in inside.items() if name == key)
    for part in inside.values() if isinstance(inside, dict) else inside if isinstance(inside, list) else ():
        yield from values_of(key, part)


def test_every_metric_of_the_dashboard_is_one_of_the_gateway() -> None:
    asked = set(re.findall(r"\bedgekd_\w+", " ".join(map(json.dumps, values_of("expr", BOARD)))))
    assert len(asked) > 20 and asked <= set(exported()), asked - set(exported())


def test_a_stream_is_chosen_where_there_are_several_and_nowhere_else() -> None:
    labels = exported()
    for expr in values_of("expr", BOARD):
        for name, chosen in re.findall(r"\b(edgekd_\w+)\{([^}]*)\}", expr):
            assert ('stream=~"$stream"' in chosen) == ("stream" in labels[name]), expr


def test_its_data_sources_are_provisioned_and_events_come_from_one_of_them() -> None:
    sources = yaml.safe_load((FOLDER / "provisioning" / "datasources" / "edgekd.yaml").read_text())["datasources"]
    known = {(source["type"], source["uid"]) for source in sources}
    assert {(found["type"], found["uid"]) for found in values_of("datasource", BOARD)} == known
    assert list(values_of("topic", BOARD)) == ["$topic"]


def test_the_files_mount_each_other() -> None:
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    mounted = dict(volume.split(":")[:2] for service in services.values() for volume in service["volumes"])
    assert all((FOLDER / source).exists() for source in mounted if source.startswith("."))
    provider = yaml.safe_load((FOLDER / "provisioning" / "dashboards" / "edgekd.yaml").read_text())["providers"][0]
    assert provider["options"]["path"] == mounted["./dashboards"]
    (scrape,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["static_configs"][0]["targets"] == ["127.0.0.1:9108"]


def test_no_two_panels_overlap() -> None:
    cells = [
        (x, y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
