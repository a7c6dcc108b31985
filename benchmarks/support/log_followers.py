"""Followers of a job's log for a benchmark: `python -m benchmarks.support.log_followers COUNT JOB_ID`.

All in one event loop, over a few connections. A message that several get is decoded once, and nothing is
computed before the end: what followers do with their lines is not what is measured, and would take the
server's processor. Prints `ready` once all follow, and at the end of the job one JSON object: lines received,
and the latencies from the making of each line to its arrival at each follower.
"""

from __future__ import annotations

import asyncio
import bisect
import functools
import gc
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc

from quakegrid.api.v1 import logs_pb2
from quakegrid.settings import config
from quakegrid.transport import grpc_channels

FOLLOWERS_PER_CONNECTION = 25
STEP_S = 0.0005
METHOD = "/quakegrid.api.v1.Logs/TailLog"


@dataclass(frozen=True, slots=True)
class Page:
    """What counts of a message."""

    made_s: tuple[float, ...]
    first_id: int = 0
    last_id: int = 0


@functools.lru_cache(maxsize=64)
def decode(message: bytes) -> Page:
    """Decode a message; one without lines is the last."""
    lines = logs_pb2.TailLogResponse.FromString(message).lines
    if not lines:
        return Page(())
    made_s = tuple(line.log_time.seconds + line.log_time.nanos / 1e9 for line in lines)
    return Page(made_s, lines[0].id, lines[-1].id)


class Latencies:
    """When which pages came."""

    def __init__(self) -> None:
        self._arrivals: list[tuple[float, Page]] = []

    def add(self, page: Page) -> None:
        """Note a page that has just come."""
        self._arrivals.append((time.time(), page))

    def percentiles(self, shares: Iterable[float]) -> list[float]:
        """For each share: the latency that so many of all lines do not exceed, in seconds."""
        counts = Counter(
            int((arrival_s - made_s) / STEP_S) for arrival_s, page in self._arrivals for made_s in page.made_s
        )
        steps = sorted(counts)
        sums = list(itertools.accumulate(counts[step] for step in steps))
        return [(steps[bisect.bisect_left(sums, share * sums[-1])] + 1) * STEP_S for share in shares]


async def follow(
    channel: grpc.aio.Channel, job_id: int, ready: asyncio.Semaphore, latencies: Latencies
) -> int:
    """Follow to the end; returns how many lines came, each once and in order."""
    line_count, last_id = 0, 0
    serialize = logs_pb2.TailLogRequest.SerializeToString
    tail: Any = channel.unary_stream(METHOD, request_serializer=serialize, response_deserializer=bytes)
    async for message in tail(logs_pb2.TailLogRequest(job_id=job_id)):
        page = decode(message)
        if not page.made_s:
            break
        if not line_count:
            ready.release()
        else:
            latencies.add(page)
        assert page.first_id > last_id
        line_count, last_id = line_count + len(page.made_s), page.last_id
    return line_count


async def main() -> int:
    """Run the followers and print what they saw."""
    count, job_id = map(int, sys.argv[1:])
    settings = config.load_settings()
    channels = [
        grpc_channels.open_aio_channel(settings.dbserver_address, settings.authkey)
        for _ in range((count - 1) // FOLLOWERS_PER_CONNECTION + 1)
    ]
    ready, latencies = asyncio.Semaphore(0), Latencies()
    tasks = [
        asyncio.create_task(follow(channels[number % len(channels)], job_id, ready, latencies))
        for number in range(count)
    ]
    for _ in tasks:
        await ready.acquire()
    gc.freeze()  # collections of 200 followers in one process are no part of the figure
    print("ready", flush=True)
    line_counts = await asyncio.gather(*tasks)
    result: dict[str, Any] = {"lines": line_counts}
    result["p50"], result["p99"] = latencies.percentiles((0.5, 0.99))
    print(json.dumps(result), flush=True)
    for channel in channels:
        await channel.close(None)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
