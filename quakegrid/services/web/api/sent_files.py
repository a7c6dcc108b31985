"""Routes by which programs send files before they run a calculation: only those that are not here yet.

missing ──► which files are not here ──► a PUT for each piece of these ──► run, by a manifest
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quakegrid import errors
from quakegrid.services.web.api.calculations import backends_of, caller_of
from quakegrid.services.web.uploads import forms, manifests
from quakegrid.services.web.uploads.manifests import Manifest, WantedFile
from quakegrid.services.web.uploads.store import PIECE_BYTES, FileStore

MISSING_PATH = "/v1/inputs/missing"
JSON_TYPE = "application/json"
# Pieces that are received at once: of all people, and of one.
MOST_PIECES, MOST_OWN_PIECES = 16, 4
MOST_MANIFEST_BYTES = 8 << 20
# Answers that are kept for programs that have lost their connection.
MOST_ANSWERS = 1000


class Turnstile:
    """Lets a few pieces, and lists of files, in at a time: each takes memory until it is on disk."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    @asynccontextmanager
    async def enter(self, owner: str) -> AsyncIterator[None]:
        """Receive a piece.

        Raises:
            PeerUnreachableError: too many come at once.
        """
        if self._counts[owner] >= MOST_OWN_PIECES or self._counts.total() >= MOST_PIECES:
            raise errors.PeerUnreachableError("too many pieces come at once; try again")
        self._counts[owner] += 1
        try:
            yield
        finally:
            self._counts[owner] -= 1
            if not self._counts[owner]:
                del self._counts[owner]


class Answers:
    """Answers by the ids of requests: who asks again for want of an answer starts nothing twice."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], asyncio.Task[Response]] = {}

    async def once(self, owner: str, request_id: str, make: Callable[[], Awaitable[Response]]) -> Response:
        """The answer of `make`, which runs once for each id; what made no calculation may be asked again."""
        key = owner, request_id
        if key not in self._tasks:
            self._drop_old()
            task = asyncio.ensure_future(make())
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._forget_refusal(key, done))
        answer = await asyncio.shield(self._tasks[key])
        return Response(answer.body, answer.status_code, media_type=JSON_TYPE)

    def _forget_refusal(self, key: tuple[str, str], done: asyncio.Task[Response]) -> None:
        if done.cancelled() or done.exception() is not None or done.result().status_code != 200:
            self._tasks.pop(key, None)

    def _drop_old(self) -> None:
        for key in [key for key, task in self._tasks.items() if task.done()]:
            if len(self._tasks) < MOST_ANSWERS:
                return
            del self._tasks[key]


def store_of(request: Request) -> FileStore:
    """The files that people have sent."""
    return backends_of(request).store


async def missing(request: Request) -> Response:
    """`POST /v1/inputs/missing`: which files of a calculation have not come from the caller yet."""
    most_bytes, owner = request.app.state.settings.web_upload_bytes, caller_of(request).name
    turnstile: Turnstile = request.app.state.turnstile
    async with turnstile.enter(owner):  # a long list takes a thread, and the disk, for a while
        wanted = manifests.read_wanted(await read_body(request, MOST_MANIFEST_BYTES), most_bytes)
        found = await asyncio.to_thread(store_of(request).missing, owner, wanted)
    listed = [{"sha256": each.sha256, "received_bytes": each.received_bytes} for each in found]
    return JSONResponse({"missing": listed, "piece_bytes": PIECE_BYTES})


async def piece(request: Request) -> Response:
    """`PUT /v1/inputs/HASH?offset=N&size=M`: a piece of a file, and how much of the file is here now."""
    owner, query = caller_of(request).name, request.query_params
    wanted = WantedFile(manifests.checked_hash(request.path_params["sha256"]), _count(query.get("size", "")))
    offset = _count(query.get("offset", ""))
    if wanted.size_bytes > request.app.state.settings.web_upload_bytes:
        raise errors.UsageError("the file is larger than [web] max_upload")
    turnstile: Turnstile = request.app.state.turnstile
    async with turnstile.enter(owner):
        data = await read_body(request, PIECE_BYTES)
        received = await asyncio.to_thread(store_of(request).add, owner, wanted, offset, data)
    return JSONResponse({"received_bytes": received})


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise errors.UsageError("`offset` and `size` are numbers of bytes")
    return int(text)


async def read_body(request: Request, most_bytes: int) -> bytes:
    """A body that fits into memory.

    Raises:
        UsageError: it is too long, or did not come whole.
    """
    body = bytearray()
    async for chunk in forms.chunks(request):
        body += chunk
        if len(body) > most_bytes:
            raise errors.UsageError(f"at most {most_bytes} bytes are taken here")
    return bytes(body)


def is_manifest(request: Request) -> bool:
    """Whether a request names files that have come before, in place of bringing them."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON_TYPE


async def read_manifest(request: Request) -> Manifest:
    """The manifest that a request brings.

    Raises:
        UsageError: it is none.
    """
    return manifests.read(await read_body(request, MOST_MANIFEST_BYTES))


def collect(store: FileStore, owner: str, manifest: Manifest, folder: Path) -> dict[str, Path]:
    """Put the files of a manifest into a folder, under names of ours; blocks.

    Returns:
        Relative name to path, in the manifest's order.
    Raises:
        NotFoundError: one is not here any more; the sender asks which ones are missing.
    """
    found = {}
    for number, (name, sha256) in enumerate(manifest.files.items()):
        found[name] = folder / f"part-{number}"
        store.take(owner, sha256, found[name])
    return found


ROUTES = [
    Route(MISSING_PATH, missing, methods=["POST"]),
    Route("/v1/inputs/{sha256}", piece, methods=["PUT"]),
]
