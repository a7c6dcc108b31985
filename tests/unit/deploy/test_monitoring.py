"""The dashboard and the alert rules ask for metrics that there are, and `promtool` accepts the rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from quakegrid.api.v1 import fleet_pb2
from quakegrid.services.broker.status import metrics
from quakegrid.services.broker.status.job_totals import JobTotals

FOLDER = Path(__file__).parents[3] / "deploy" / "monitoring"
RULES = FOLDER / "alerts.yaml"
NAME = re.compile(r"\bquakegrid_\w+")
LABEL = re.compile(r"(\w+)(?:=~?|!=)\"|\{\{(\w+)\}\}|\{\{ \$labels\.(\w+) \}\}")
# What Prometheus itself adds, and the bounds of histograms.
GIVEN_LABELS = {"instance", "job", "le"}


def known() -> set[str]:
    """Names of all series, and all labels, of a status with one of everything."""
    status = fleet_pb2.GetStatusResponse()
    status.nodes.add(host="n1").sample.memory_total_bytes = 1
    status.lanes.add(port=1912, state="open")
    status.sessions.add(session_id=1, job_ids=[1])
    lines = metrics.text(lambda: status, JobTotals()).splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")} | {
        label for line in lines for label in re.findall(r"(\w+)=\"", line)
    }


def expressions() -> Iterator[str]:
    """All queries, each with the text beside it that names labels."""
    board: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        yield from (f"{target['expr']} {target['legendFormat']}" for target in panel["targets"])
    for rule in rules():
        yield f"{rule['expr']} {rule['annotations']['summary']}"


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_queries_name_metrics_and_labels_that_there_are() -> None:
    """Who renames a metric takes the dashboard and the rules along."""
    names = known()
    for text in expressions():
        assert set(NAME.findall(text)) <= names, text
        labels = {name for found in LABEL.findall(text) for name in found if name}
        assert labels <= names | GIVEN_LABELS, text


def test_panels_do_not_overlap_and_alerts_say_what_to_do() -> None:
    """A person who is woken at night reads the remedy first."""
    board = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    places = [panel["gridPos"] for panel in board["panels"]]
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in board["panels"]}) == len(places)
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["remedy"].endswith(".")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (Debian: prometheus)")
def test_promtool_accepts_the_rules() -> None:
    """Also their expressions."""
    done = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
