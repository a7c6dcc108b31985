"""The metrics of the broker, as they are collected of a status with one of everything."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from quakegrid.api.v1 import fleet_pb2
from quakegrid.services.broker.status import metrics
from quakegrid.services.broker.status.job_totals import JobTotals

_HEAD = """\
# Metrics

*Generated from the code by `make reference`.*

`quakegrid metrics` prints these metrics in the text format of Prometheus. With `[broker] metrics_port` the
broker serves them over HTTP as `/metrics`, without a key; for that reason no metric has the name of a user.
Counters begin at 0 when the broker starts. At most {most} sessions have series of their own; the totals count
all sessions.

```yaml
scrape_configs:
  - job_name: quakegrid
    static_configs:
      - targets: ["master.example.org:1910"]
```

| metric | kind | labels | means |
|---|---|---|---|
"""


def markdown() -> str:
    """The page."""
    text = metrics.text(_status, JobTotals())
    rows = []
    for family in text_string_to_metric_families(text):
        labels = sorted({name for sample in family.samples for name in sample.labels})
        labels = [name for name in labels if name != "le"]  # the bounds of a histogram
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append(f"| `{name}` | {family.type} | {', '.join(labels) or '-'} | {family.documentation} |\n")
    return _HEAD.format(most=metrics.MAX_SESSIONS) + "".join(rows)


def _status() -> fleet_pb2.GetStatusResponse:
    status = fleet_pb2.GetStatusResponse()
    node = status.nodes.add(host="n1", is_up=True)
    node.sample.memory_total_bytes = 1
    status.lanes.add(port=1912, state="open")
    status.sessions.add(session_id=1, state="executing", job_ids=[1])
    return status
