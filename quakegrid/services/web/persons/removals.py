"""Removes what belongs to people, as their accounts: inputs that they sent, datastores of deleted jobs.

What cannot be removed now, such as while there is no agent, is tried again: records of inputs stay until the
inputs are gone, and the dbserver keeps a list of the files that it could not remove.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from quakegrid.errors import PeerUnreachableError, QuakeGridError
from quakegrid.services.web.persons import whose
from quakegrid.services.web.uploads.inputs import Inputs, Kept

log = logging.getLogger("quakegrid.web")
# Between two looks at the list of files that are left.
PAUSE_S = 5.0
MOST_FILES = 500
# Of one owner: files of somebody who has no account any more keep nobody else's waiting.
MOST_OF_OWNER = 100
# A person can stop the driver that removes their files.
OWNER_TIMEOUT_S = 60.0
MOST_TOLD = 100
LEFT = (
    "SELECT path, user_name FROM (SELECT path, user_name, row_number() OVER "
    "(PARTITION BY user_name ORDER BY noted_s) AS place FROM quakegrid_left_file) "
    "WHERE place <= ?x ORDER BY place LIMIT ?x"
)
_FORGET = "DELETE FROM quakegrid_left_file WHERE path IN (?X)"
EngineCall = Callable[..., Awaitable[Any]]
RunView = Callable[..., Awaitable[dict[str, Any]]]


class Removals:
    """Removes what belongs to people.

    Args:
        inputs: the folders of what people sent.
        engine_call: asks the dbserver.
        run_view: runs a view in a driver.
    """

    def __init__(self, inputs: Inputs, engine_call: EngineCall, run_view: RunView) -> None:
        self._inputs, self._engine_call, self._run_view = inputs, engine_call, run_view
        self._told: set[tuple[str, str, int, str]] = set()
        self._is_wanted = asyncio.Event()
        self._is_wanted.set()

    async def inputs_of_job(self, job_id: int) -> None:
        """Remove the inputs of a calculation, if it was sent some. A sweep tries again what fails."""
        for kept in await asyncio.to_thread(lambda: list(self._inputs.kept())):
            if kept.job_id == job_id:
                await self.inputs(kept)

    async def inputs_named(self, name: str) -> None:
        """Remove a folder of inputs that no calculation has taken. A sweep tries again what fails."""
        for kept in await asyncio.to_thread(lambda: list(self._inputs.kept())):
            if kept.name == name:
                await self.inputs(kept)

    async def inputs(self, kept: Kept) -> bool:
        """Remove inputs and their record; whether they are gone."""
        if kept.is_with_owner:
            try:
                await self._run(kept.owner, inputs=[kept.name])
            except QuakeGridError as exc:
                log.warning("inputs_not_removed folder=%s owner=%s reason=%s", kept.name, kept.owner, exc)
                return False
        await asyncio.to_thread(self._inputs.remove, kept.name)
        log.info("inputs_removed job=%d bytes=%d", kept.job_id, kept.size_bytes)
        return True

    def look(self) -> None:
        """Look at the list of files that are left now."""
        self._is_wanted.set()

    async def follow(self) -> None:
        """Remove what the dbserver could not, for ever."""
        while True:
            try:
                async with asyncio.timeout(PAUSE_S):
                    await self._is_wanted.wait()
            except TimeoutError:
                pass
            self._is_wanted.clear()
            try:
                await self.left_files()
            except QuakeGridError as exc:
                log.info("left_files_unknown reason=%s", exc)

    async def left_files(self) -> None:
        """Remove what the dbserver could not, as far as that works now.

        Raises:
            QuakeGridError: the dbserver does not answer.
        """
        by_owner: dict[str, list[str]] = defaultdict(list)
        for path, owner in (await self._engine_call(LEFT, MOST_OF_OWNER, MOST_FILES)).rows:
            by_owner[owner].append(path)
        for owner, paths in by_owner.items():
            try:
                async with asyncio.timeout(OWNER_TIMEOUT_S):
                    await self._run(owner, datastores=paths)
            except TimeoutError:
                self._tell(owner, paths, PeerUnreachableError("the driver of the owner did not answer"))
            except QuakeGridError as exc:
                self._tell(owner, paths, exc)
            else:
                await self._engine_call(_FORGET, paths)
                log.info("files_removed owner=%s count=%d", owner, len(paths))

    def _tell(self, owner: str, paths: list[str], exc: QuakeGridError) -> None:
        """Tell what is left, once for the same files and reason."""
        told = (owner, paths[0], len(paths), str(exc))
        if told not in self._told:
            log.warning("files_left owner=%s first=%s count=%d reason=%s", *told)
        self._told = {*list(self._told)[-MOST_TOLD:], told}

    async def _run(self, owner: str, **what: list[str]) -> None:
        asked: dict[str, list[str]] = {"inputs": [], "datastores": []} | what
        await self._run_view("remove", json.dumps(asked), whose=whose.of(owner, ""))
