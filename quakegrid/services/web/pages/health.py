"""How the cluster is: its services, its database, and what the doctor finds; as the command line tells it.

Each command runs in a process of its own, since the doctor's checks would block this one and keep its memory.
One examination is made at a time, and its answer is good for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quakegrid.services.web.access.tls import TlsDoor
from quakegrid.settings.config import Settings

log = logging.getLogger("quakegrid.web")
PROGRAM = "quakegrid.cli"
# What is shown, and the command that tells it.
COMMANDS = {"services": ("status",), "database": ("db", "info"), "doctor": ("doctor",)}
TIMEOUT_S = 60.0
FRESH_S = 15.0
MOST_BYTES = 4 << 20


class Examinations:
    """Runs the commands, at most once in a while.

    Args:
        settings: of the cluster.
    """

    def __init__(self, settings: Settings) -> None:
        self._state_dir = str(settings.state_dir)
        self._lock = asyncio.Lock()
        self._made_s = -FRESH_S
        self._made: dict[str, Any] = {}

    async def newest(self) -> dict[str, Any]:
        """What the commands tell: each a value, or null if it did not work."""
        async with self._lock:
            if time.monotonic() - self._made_s > FRESH_S:
                told = await asyncio.gather(*(self._tell(command) for command in COMMANDS.values()))
                self._made = dict(zip(COMMANDS, told, strict=True)) | {"time_s": time.time()}
                self._made_s = time.monotonic()
            return self._made

    async def _tell(self, command: tuple[str, ...]) -> Any:
        # -P: modules in the folder where this service was started are none of ours.
        args = ["-P", "-m", PROGRAM, "--state-dir", self._state_dir, *command, "--output", "json"]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *args,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"NO_COLOR": "1"},
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                said, doubts = await process.communicate()
            return json.loads(said[:MOST_BYTES])
        except TimeoutError:
            log.warning("examination_failed command=%s reason=timeout", command[0])
        except ValueError:
            reason = doubts.decode("utf-8", "replace").strip()[-300:]
            log.warning("examination_failed command=%s reason=%r", command[0], reason)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return None


async def newest(request: Request) -> Response:
    """`GET /cluster/health.json`: services, database and the doctor's findings."""
    examinations: Examinations = request.app.state.examinations
    door: TlsDoor | None = request.app.state.door
    ends = [each.as_json(time.time()) for each in door.ends] if door else []
    answer = await examinations.newest() | {"certificates": ends}
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


ROUTES = [Route("/cluster/health.json", newest)]
