"""The broker's status, and the totals of jobs, as Prometheus metrics.

Metrics are computed when they are asked for; nothing is counted for monitoring alone. At most `MAX_SESSIONS`
sessions have series of their own. The totals count all sessions.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from quakegrid.api.v1 import fleet_pb2
from quakegrid.errors import QuakeGridError
from quakegrid.services.broker.status.job_totals import JobTotals
from quakegrid.services.broker.status.scrapes import ScrapeServer
from quakegrid.settings.config import Settings

TakeStatus = Callable[[], fleet_pb2.GetStatusResponse]
MAX_SESSIONS = 100
SCRAPE_TIMEOUT_S = 5.0


def text(take_status: TakeStatus, jobs: JobTotals) -> str:
    """The metrics in Prometheus' text format."""
    return prometheus_client.generate_latest(_registry(take_status, jobs)).decode()


def serve(settings: Settings, take_status: TakeStatus, jobs: JobTotals) -> ScrapeServer:
    """Serve `/metrics` without a key. For that reason the metrics have no names of users.

    The status is read in the event loop that calls this function.

    Raises:
        QuakeGridError: the port is taken.
    """
    loop = asyncio.get_running_loop()

    async def take() -> fleet_pb2.GetStatusResponse:
        return take_status()

    def take_in_loop() -> fleet_pb2.GetStatusResponse:
        return asyncio.run_coroutine_threadsafe(take(), loop).result(SCRAPE_TIMEOUT_S)

    host, port = settings.broker_listen, settings.broker_metrics_port
    try:
        return ScrapeServer(host, port, prometheus_client.make_wsgi_app(_registry(take_in_loop, jobs)))
    except OSError as exc:
        raise QuakeGridError(
            f"the broker cannot serve metrics on {host}:{port}: {exc.strerror}; "
            "see [broker] metrics_port in openquake.cfg"
        ) from None


class _StatusCollector(Collector):
    def __init__(self, take_status: TakeStatus, job_totals: JobTotals) -> None:
        self._take_status, self._job_totals = take_status, job_totals

    def collect(self) -> Iterator[Metric]:
        """All metrics, from one status."""
        status = self._take_status()
        yield from _nodes(status)
        yield from _lanes(status)
        yield from _totals(status)
        yield from _sessions(status)
        yield from _jobs(self._job_totals)


def _registry(take_status: TakeStatus, jobs: JobTotals) -> prometheus_client.CollectorRegistry:
    registry = prometheus_client.CollectorRegistry()
    registry.register(_StatusCollector(take_status, jobs))
    return registry


def _nodes(status: fleet_pb2.GetStatusResponse) -> Iterator[Metric]:
    """One series a node of `host_cores`."""
    up = GaugeMetricFamily("quakegrid_node_up", "Whether the node can run workers.", labels=["host"])
    cores = GaugeMetricFamily("quakegrid_node_cores", "Cores that may be used.", labels=["host"])
    workers = GaugeMetricFamily("quakegrid_node_workers", "Workers.", labels=["host"])
    busy = GaugeMetricFamily("quakegrid_node_busy_workers", "Workers that hold a task.", labels=["host"])
    for node in status.nodes:
        up.add_metric([node.host], node.is_up)
        cores.add_metric([node.host], node.core_count)
        workers.add_metric([node.host], node.worker_count)
        busy.add_metric([node.host], node.running_count)
    yield from (up, cores, workers, busy)
    yield from _node_samples(status)


def _node_samples(status: fleet_pb2.GetStatusResponse) -> Iterator[Metric]:
    """Memory and load, of nodes that have told them."""
    name, labels = "quakegrid_node_memory", ["host"]
    used = GaugeMetricFamily(f"{name}_used_bytes", "Memory in use.", labels=labels)
    total = GaugeMetricFamily(f"{name}_bytes", "Memory that there is.", labels=labels)
    limit = GaugeMetricFamily(f"{name}_limit_bytes", "Use above which workers are stopped.", labels=labels)
    short = GaugeMetricFamily(
        f"{name}_is_short", "Whether it takes no new tasks for want of memory.", labels=labels
    )
    load = GaugeMetricFamily("quakegrid_node_load", "Mean number of running processes.", labels=labels)
    stopped = GaugeMetricFamily("quakegrid_node_stopped", "Whether people have stopped it.", labels=labels)
    for node in status.nodes:
        short.add_metric([node.host], node.is_short_of_memory)
        stopped.add_metric([node.host], node.is_stopped)
        if node.HasField("sample"):
            used.add_metric([node.host], node.sample.memory_used_bytes)
            total.add_metric([node.host], node.sample.memory_total_bytes)
            limit.add_metric([node.host], node.sample.memory_total_bytes * node.sample.hard_percent / 100)
            load.add_metric([node.host], node.sample.load_average)
    yield from (used, total, limit, short, load, stopped)


def _lanes(status: fleet_pb2.GetStatusResponse) -> Iterator[Metric]:
    """Lanes by state; one series a lane that is open."""
    lanes = GaugeMetricFamily("quakegrid_lanes", "Lanes by state.", labels=["state"])
    counts = Counter(lane.state for lane in status.lanes)
    for state in ("starting", "open", "pausing", "refused"):
        lanes.add_metric([state], counts[state])
    sessions = GaugeMetricFamily("quakegrid_lane_sessions", "Sessions of a lane.", labels=["port"])
    for lane in status.lanes:
        if lane.state == "open":
            sessions.add_metric([str(lane.port)], lane.session_count)
    yield from (lanes, sessions)


def _totals(status: fleet_pb2.GetStatusResponse) -> Iterator[Metric]:
    """Counters since the broker's start, and sessions by state."""
    totals = status.totals
    yield CounterMetricFamily("quakegrid_sessions", "Sessions opened.", totals.session_count)
    yield CounterMetricFamily("quakegrid_tasks_done", "Tasks done.", totals.done_count)
    yield CounterMetricFamily(
        "quakegrid_tasks_requeued", "Tasks queued again after their worker ended.", totals.requeued_count
    )
    yield CounterMetricFamily("quakegrid_tasks_failed", "Tasks given up.", totals.failed_count)
    yield CounterMetricFamily(
        "quakegrid_argument_bytes", "Bytes that lanes sent to workers.", totals.argument_bytes
    )
    yield CounterMetricFamily("quakegrid_result_bytes", "Bytes of outcomes.", totals.result_bytes)
    states = Counter(session.state for session in status.sessions)
    sessions = GaugeMetricFamily("quakegrid_open_sessions", "Open sessions by state.", labels=["state"])
    for state in ("submitted", "executing"):
        sessions.add_metric([state], states[state])
    yield sessions


def _sessions(status: fleet_pb2.GetStatusResponse) -> Iterator[Metric]:
    """Series of the oldest open sessions."""
    labels = ["session", "job"]
    workers = GaugeMetricFamily("quakegrid_session_workers", "Workers.", labels=labels)
    queued = GaugeMetricFamily("quakegrid_session_tasks_queued", "Tasks that wait.", labels=labels)
    running = GaugeMetricFamily("quakegrid_session_tasks_running", "Tasks that run.", labels=labels)
    done = CounterMetricFamily("quakegrid_session_tasks_done", "Tasks done.", labels=labels)
    requeued = CounterMetricFamily("quakegrid_session_tasks_requeued", "Tasks queued again.", labels=labels)
    failed = CounterMetricFamily("quakegrid_session_tasks_failed", "Tasks given up.", labels=labels)
    memory = GaugeMetricFamily(
        "quakegrid_session_memory_bytes", "Memory that its workers have for themselves.", labels=labels
    )
    own_bytes = Counter[int]()
    for node in status.nodes:
        for each in node.sample.sessions:
            own_bytes[each.session_id] += each.own_bytes
    for session in status.sessions[:MAX_SESSIONS]:
        values = [str(session.session_id), str(session.job_ids[0]) if session.job_ids else ""]
        workers.add_metric(values, session.worker_count)
        queued.add_metric(values, session.queued_count)
        running.add_metric(values, session.running_count)
        done.add_metric(values, session.done_count)
        requeued.add_metric(values, session.requeued_count)
        failed.add_metric(values, session.failed_count)
        memory.add_metric(values, own_bytes[session.session_id])
    yield from (workers, queued, running, done, requeued, failed, memory)


def _jobs(totals: JobTotals) -> Iterator[Metric]:
    """Calculations, as the dbserver tells of them."""
    yield GaugeMetricFamily(
        "quakegrid_dbserver_up", "Whether the dbserver tells of jobs.", float(totals.is_heard)
    )
    states = GaugeMetricFamily("quakegrid_jobs", "Jobs by state.", labels=["state"])
    for state, count in totals.counts():
        states.add_metric([state], count)
    ended = HistogramMetricFamily(
        "quakegrid_job_duration_seconds", "Times of jobs that ended, by how they ended.", labels=["state"]
    )
    for end, durations in totals.ended.items():
        ended.add_metric([end.value], durations.buckets(), durations.sum_s)
    yield from (states, ended)
