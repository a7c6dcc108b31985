"""The web service with many live pages open, alone and beside a calculation that computes: latencies, memory.

All in one run on this machine. Figures with a target make the exit code 1 when they are short of it.
"""

from __future__ import annotations

import asyncio
import getpass
import http.client
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from benchmarks.support.figures import Figure
from benchmarks.support.records import report
from benchmarks.web import computing, pages
from benchmarks.web import transfers as transfers_
from quakegrid import testing
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.machine import service_files
from quakegrid.settings import config
from quakegrid.settings.config import Settings

PAGES = 200
REQUESTS_PER_S = 50
SECONDS = 20
JOBS = 200
CHANGES = 40
ENGINE_REQUESTS = 20
STARTS = 8
LOOKS = 50
CASE = "classical/case_01"
MS = 1000.0
MIB = 1 << 20


def say(text: str) -> None:
    """What is being measured; the figures go to stdout."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def cluster(folder: Path) -> Iterator[Settings]:
    """A cluster with a web service and one calculation that is complete."""
    state_dir = folder / "state"
    testing.write_cluster_config(state_dir, {"web": {"port": testing.free_ports(1)[0]}})
    (folder / "home").mkdir()
    environ = testing.isolated_environ(folder / "home")
    program = [str(Path(sys.executable).with_name("quakegrid")), "--state-dir", str(state_dir)]

    def call(*args: str) -> None:
        subprocess.run([*program, *args], env=environ, check=True, stdout=subprocess.DEVNULL)

    try:
        call("up")
        call("run", str(testing.copy_engine_case(CASE, folder / "case") / "job.ini"))
        yield config.load_settings(state_dir, environ)
    finally:
        call("down", "--force")


async def ask(port: int, path: str, latencies_ms: list[float]) -> None:
    """One request on a connection of its own, as scripts do it."""
    start_s = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
    latencies_ms.append((time.perf_counter() - start_s) * MS)


async def ask_often(port: int) -> list[float]:
    """Latencies of so many requests a second; milliseconds."""
    latencies_ms: list[float] = []
    asking = []
    begin_s = time.perf_counter()
    for number in range(SECONDS * REQUESTS_PER_S):
        await asyncio.sleep(max(0.0, begin_s + number / REQUESTS_PER_S - time.perf_counter()))
        path = "/v1/calc/1/status" if number % 2 else "/v1/calc/list"
        asking.append(asyncio.create_task(ask(port, path, latencies_ms)))
    await asyncio.gather(*asking)
    return latencies_ms


def crowd(settings: Settings, database: DbClient, what: str) -> list[Figure]:
    """Latencies of requests, and delays of events at all pages.

    Args:
        settings: of the cluster.
        database: of it, in which jobs begin meanwhile.
        what: is so meanwhile, for the names of the figures.
    """
    say(f"requests beside {PAGES} live pages, {what} ...")
    with pages.opened(settings.web_port, PAGES) as opened, ThreadPoolExecutor(1) as changing:
        changed_s = changing.submit(change_jobs, database)
        latencies_ms = asyncio.run(ask_often(settings.web_port))
        delays_ms = [delay_s * MS for delay_s in opened.delays_s(changed_s.result())]
    p99 = statistics.quantiles(latencies_ms, n=100)[98]
    return [
        Figure(f"list and status, {PAGES} pages, {what}, p50", statistics.median(latencies_ms), "ms"),
        Figure(f"list and status, {PAGES} pages, {what}, p99", p99, "ms", at_most=30),
        Figure(f"change of a job at a page, {what}, p50", statistics.median(delays_ms), "ms"),
        Figure(f"change of a job at a page, {what}, most", max(delays_ms), "ms", at_most=500),
    ]


def change_jobs(database: DbClient) -> dict[int, float]:
    """Let jobs begin one after the other; when each did, by the monotonic clock."""
    changed_s = {}
    for number in range(CHANGES):
        job = make_job(database, f"changing {number}")
        time.sleep(SECONDS / CHANGES / 2)
        changed_s[job] = time.monotonic()
        database.jobs.transition(job, JobState.EXECUTING)
    return changed_s


def make_job(database: DbClient, description: str) -> int:
    """A job that does nothing."""
    return database.jobs.create_job(
        data_dir="/data", calculation_mode="classical", description=description, user_name="bench"
    ).id


def engine_requests_ms(port: int) -> list[float]:
    """Times of extracts, one after the other."""
    found = []
    for _ in range(ENGINE_REQUESTS):
        begin_s = time.perf_counter()
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", "/v1/calc/1/extract/hcurves?kind=mean")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == http.client.OK
        found.append((time.perf_counter() - begin_s) * MS)
    return found


def start_requests_ms(port: int, model: Path) -> list[float]:
    """Times until calculations that are sent are accepted, one after the other."""
    archive = Path(shutil.make_archive(str(model.with_name("sent")), "zip", model)).read_bytes()
    found = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        for _ in range(STARTS):
            begin_s = time.perf_counter()
            answer = client.post("/v1/calc/run", files={"archive": ("model.zip", archive)})
            found.append((time.perf_counter() - begin_s) * MS)
            assert answer.status_code == http.client.OK, answer.text
    return found


def transfers(settings: Settings, database: DbClient, folder: Path, pid: int) -> list[Figure]:
    """A file of a gigabyte, an upload that is too large, and slow readers."""
    job = database.jobs.create_job(
        data_dir=str(folder), calculation_mode="classical", description="large", user_name=getpass.getuser()
    )
    transfers_.write_datastore(Path(f"{job.ds_calc_dir}.hdf5"))
    port, path = settings.web_port, f"/v1/calc/{job.id}/datastore"
    before_mib = transfers_.memory_mib(pid, "VmHWM")
    download_s, size = transfers_.download_s(port, path)
    downloaded_mib = transfers_.memory_mib(pid, "VmHWM")
    refused_s, taken_mib = transfers_.refused_upload(port)
    with transfers_.slow_readers(port, path):
        latencies_ms: list[float] = []
        for _ in range(LOOKS):
            asyncio.run(ask(port, "/v1/calc/1/status", latencies_ms))
    return [
        Figure("datastore of 1 GB, speed", size / MIB / download_s, "MB/s"),
        Figure(
            "datastore of 1 GB, memory above the most before", downloaded_mib - before_mib, "MiB", at_most=8
        ),
        Figure("upload of 2 GB, time until it is refused", refused_s * MS, "ms", at_most=500),
        Figure("upload of 2 GB, taken from the sender", taken_mib, "MB", at_most=32),
        Figure("status beside 200 slow readers, p50", statistics.median(latencies_ms), "ms", at_most=30),
    ]


def main() -> int:
    """Measure, and print the figures."""
    with tempfile.TemporaryDirectory(prefix="quakegrid-bench-") as folder, cluster(Path(folder)) as settings:
        record = service_files.read(settings, "web")
        assert record is not None
        with DbClient(settings) as database:
            for number in range(JOBS):
                make_job(database, f"job {number}")
            figures = crowd(settings, database, "idle cores")
            with computing.calculation(settings, Path(folder)) as still_computes:
                assert still_computes()
                figures += crowd(settings, database, "busy cores")
                assert still_computes(), "the calculation ended too early: nothing was measured beside it"
            say("large files ...")
            figures += transfers(settings, database, Path(folder), record.pid)
            say("a large export ...")
            figures.append(computing.large_export(settings, database, Path(folder), record.pid))
        say("requests that need the engine ...")
        engine_ms = engine_requests_ms(settings.web_port)
        say("calculations that are sent ...")
        started_ms = start_requests_ms(settings.web_port, Path(folder, "case"))
        memory_mib = transfers_.memory_mib(record.pid, "VmHWM")
    return report(
        "web",
        [
            *figures,
            Figure("extract, p50", statistics.median(engine_ms), "ms", at_most=300),
            Figure(
                "calculation that is sent, accepted, p50", statistics.median(started_ms), "ms", at_most=1000
            ),
            Figure("memory of the web service, most", memory_mib, "MiB", at_most=150),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
