"""Followers of a job's log for a benchmark: `python -m benchmarks.log_followers COUNT JOB_ID`.

All in one event loop, over a few connections, each decoding what it gets. Prints `ready` once all
follow, and at the end of the job one JSON object: lines received, and the latencies from the making of a
line to its arrival. A message counts with its oldest line, for all of its lines.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

from quakegrid import config, rpc
from quakegrid.api.v1 import job_logs_pb2, job_logs_pb2_grpc

FOLLOWERS_PER_CONNECTION = 25
STEP_S = 0.0005


class Latencies:
    """Counts of lines by their latency."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, page: job_logs_pb2.TailLogResponse) -> None:
        """Note a page that has just come."""
        made = page.lines[0].log_time
        latency_s = time.time() - made.seconds - made.nanos / 1e9
        self.counts[int(latency_s / STEP_S)] += len(page.lines)

    def percentile(self, share: float) -> float:
        """The latency that this share of all lines does not exceed, in seconds."""
        rest = share * self.counts.total()
        for step, count in sorted(self.counts.items()):
            rest -= count
            if rest <= 0:
                return (step + 1) * STEP_S
        return 0.0


async def follow(
    stub: job_logs_pb2_grpc.JobLogsStub, job_id: int, ready: asyncio.Semaphore, latencies: Latencies
) -> int:
    """Follow to the end; returns how many lines came, each once and in order."""
    line_count, last_id = 0, 0
    async for page in stub.TailLog(job_logs_pb2.TailLogRequest(job_id=job_id)):
        if page.final_state:
            break
        if not line_count:
            ready.release()
        else:
            latencies.add(page)
        assert page.lines[0].id > last_id
        line_count, last_id = line_count + len(page.lines), page.lines[-1].id
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
    stubs = [job_logs_pb2_grpc.JobLogsStub(channel) for channel in channels]
    tasks = [
        asyncio.create_task(follow(stubs[number % len(stubs)], job_id, ready, latencies))
        for number in range(count)
    ]
    for _ in tasks:
        await ready.acquire()
    print("ready", flush=True)
    line_counts = await asyncio.gather(*tasks)
    result = {"lines": line_counts}
    result |= {f"p{share}": latencies.percentile(share / 100) for share in (50, 99)}
    print(json.dumps(result), flush=True)
    for channel in channels:
        await channel.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
