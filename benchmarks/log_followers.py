"""Followers of a job's log for a benchmark: `python -m benchmarks.log_followers COUNT JOB_ID`.

All in one event loop, over a few connections. A message that several get is decoded once: what followers
do with their lines is not what is measured, and would take the server's processor. Prints `ready` once all
follow, and at the end of the job one JSON object: lines received, and the latencies from the making of a
line to its arrival. A message counts with its oldest line, for all of its lines.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import grpc

from quakegrid import config, rpc
from quakegrid.api.v1 import job_logs_pb2 as pb

FOLLOWERS_PER_CONNECTION = 25
STEP_S = 0.0005
METHOD = "/quakegrid.api.v1.JobLogs/TailLog"


@dataclass(frozen=True, slots=True)
class Page:
    """What counts of a message."""

    line_count: int
    first_id: int
    last_id: int
    first_s: float


@functools.lru_cache(maxsize=64)
def decode(message: bytes) -> Page:
    """Decode a message; one without lines is the last."""
    lines = pb.TailLogResponse.FromString(message).lines
    if not lines:
        return Page(0, 0, 0, 0.0)
    made = lines[0].log_time
    return Page(len(lines), lines[0].id, lines[-1].id, made.seconds + made.nanos / 1e9)


class Latencies:
    """Counts of lines by their latency."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, page: Page) -> None:
        """Note a page that has just come."""
        self.counts[int((time.time() - page.first_s) / STEP_S)] += page.line_count

    def percentile(self, share: float) -> float:
        """The latency that this share of all lines does not exceed, in seconds."""
        rest = share * self.counts.total()
        for step, count in sorted(self.counts.items()):
            rest -= count
            if rest <= 0:
                return (step + 1) * STEP_S
        return 0.0


async def follow(
    channel: grpc.aio.Channel, job_id: int, ready: asyncio.Semaphore, latencies: Latencies
) -> int:
    """Follow to the end; returns how many lines came, each once and in order."""
    line_count, last_id = 0, 0
    serialize = pb.TailLogRequest.SerializeToString
    tail: Any = channel.unary_stream(METHOD, request_serializer=serialize, response_deserializer=bytes)
    async for message in tail(pb.TailLogRequest(job_id=job_id)):
        page = decode(message)
        if not page.line_count:
            break
        if not line_count:
            ready.release()
        else:
            latencies.add(page)
        assert page.first_id > last_id
        line_count, last_id = line_count + page.line_count, page.last_id
    return line_count


async def main() -> int:
    """Run the followers and print what they saw."""
    count, job_id = map(int, sys.argv[1:])
    settings = config.load_settings()
    channels = [
        rpc.open_aio_channel(settings.dbserver_address, settings.authkey)
        for _ in range((count - 1) // FOLLOWERS_PER_CONNECTION + 1)
    ]
    ready, latencies = asyncio.Semaphore(0), Latencies()
    tasks = [
        asyncio.create_task(follow(channels[number % len(channels)], job_id, ready, latencies))
        for number in range(count)
    ]
    for _ in tasks:
        await ready.acquire()
    print("ready", flush=True)
    line_counts = await asyncio.gather(*tasks)
    result: dict[str, Any] = {"lines": line_counts}
    result |= {f"p{share}": latencies.percentile(share / 100) for share in (50, 99)}
    print(json.dumps(result), flush=True)
    for channel in channels:
        await channel.close(None)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
