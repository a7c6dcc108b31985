"""Routes that take inputs: `run`, `run_ini`, and those that only say whether inputs are valid."""

from __future__ import annotations

import asyncio
import datetime
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from quakegrid import errors
from quakegrid.jobs.row_ids import LARGEST_ID
from quakegrid.services.web.access import guarded
from quakegrid.services.web.api import answers, own_files, sent_files
from quakegrid.services.web.api.calculations import backends_of, caller_of, mode_of, removals_of
from quakegrid.services.web.api.results import views_of
from quakegrid.services.web.api.sent_files import Answers
from quakegrid.services.web.callers import Caller
from quakegrid.services.web.persons import whose
from quakegrid.services.web.starts import ModelRun, RunChoices, Started, Starter
from quakegrid.services.web.uploads import forms, job_files, models
from quakegrid.services.web.uploads.forms import Form
from quakegrid.services.web.uploads.inputs import Inputs, size_of
from quakegrid.services.web.uploads.manifests import Manifest
from quakegrid.services.web.uploads.models import Model
from quakegrid.services.web.uploads.store import FileStore
from quakegrid.settings.config import Settings

UPLOAD_COUNT = 4
# Of one person, so that others have a place beside slow ones.
OWN_UPLOAD_COUNT = 3
FIELD = "archive"
# Names end in it, as upstream looks for job files.
ANY_JOB_FILE, RISK_JOB_FILE = ".ini", "risk.ini"
MOST_ADDRESS_CHARS = 2000


class Desk:
    """Takes uploads, a few at a time, and keeps their folders.

    Args:
        settings: of the cluster.
        inputs: the folders.
        starter: of calculations.
        store: of files that came before their calculations.
    """

    def __init__(self, settings: Settings, inputs: Inputs, starter: Starter, store: FileStore) -> None:
        self.settings, self.inputs, self.starter = settings, inputs, starter
        self.store, self.answers = store, Answers()
        self._counts: Counter[str] = Counter()

    @asynccontextmanager
    async def folder(self, caller: Caller) -> AsyncIterator[Path]:
        """A folder for an upload, which is removed unless it is kept.

        Args:
            caller: who sends it.
        Raises:
            PeerUnreachableError: too many come at once.
        """
        count, own_count = self._counts.total(), self._counts[caller.name]
        if count >= UPLOAD_COUNT or own_count >= OWN_UPLOAD_COUNT:
            raise errors.PeerUnreachableError(
                f"{count} uploads are on their way, {own_count} of yours; try again later"
            )
        self._counts[caller.name] += 1
        folder = None
        try:
            is_passing = bool(whose.of(caller.name, caller.name).person)
            folder = await asyncio.to_thread(self.inputs.new_folder, is_passing=is_passing)
            (folder / models.PARTS).mkdir()
            yield folder
        finally:
            self._counts[caller.name] -= 1
            self._counts += Counter()  # drops those that are 0
            if folder and not self.inputs.is_kept_here(folder):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def check_room(self, folder: Path, owner: str, more_bytes: int) -> None:
        """Refuse what a person, or the disk, has no room for.

        Raises:
            UsageError: with what to do.
        """
        stored_bytes = await asyncio.to_thread(self.store.count_bytes, owner)
        more_bytes += stored_bytes
        reason = await asyncio.to_thread(self.inputs.why_no_room, folder, owner, more_bytes)
        if reason:
            raise errors.UsageError(reason)


def desk_of(request: Request) -> Desk:
    """What takes uploads."""
    desk: Desk = request.app.state.desk
    return desk


async def run(request: Request) -> Response:
    """`POST /v1/calc/run`: run the calculation whose files come with the request, or have come before it."""
    if sent_files.is_manifest(request):
        return await _run_manifest(request)
    desk, caller = desk_of(request), caller_of(request)
    try:
        async with desk.folder(caller) as folder:
            await desk.check_room(folder, caller.name, int(request.headers.get("content-length", "0")))
            form = await forms.read(request, folder / models.PARTS, FIELD)
            wishes = read_wishes(form, caller.name)
            asked = form.fields.get("job_ini") or (
                ANY_JOB_FILE if wishes.hazard_job_id is None else RISK_JOB_FILE
            )
            limit = desk.settings.web_upload_bytes
            model = await asyncio.to_thread(models.take_form, form, folder, asked, limit)
            return await _start(request, folder, wishes, model)
    except (errors.UsageError, errors.NotAllowedError) as exc:
        return refused(exc)


async def _run_manifest(request: Request) -> Response:
    """Run a calculation whose files have come before."""
    desk, owner = desk_of(request), caller_of(request).name
    try:
        manifest = await sent_files.read_manifest(request)
    except errors.UsageError as exc:
        return refused(exc)
    return await desk.answers.once(owner, manifest.request_id, lambda: _run_sent(request, manifest))


async def _run_sent(request: Request, manifest: Manifest) -> Response:
    desk, caller = desk_of(request), caller_of(request)
    try:
        wishes = read_wishes(Form(manifest.fields), caller.name)
        job_files.check_values(manifest.job_file, manifest.params.items())
        async with desk.folder(caller) as folder:
            parts = folder / models.PARTS
            files = await asyncio.to_thread(sent_files.collect, desk.store, caller.name, manifest, parts)
            limit = desk.settings.web_upload_bytes
            model = await asyncio.to_thread(models.take_files, files, folder, manifest.job_file, limit)
            choices = RunChoices(manifest.params, manifest.weight, manifest.cores_per_worker, manifest.notify)
            return await _start(request, folder, wishes, model, choices)
    except (errors.UsageError, errors.NotAllowedError) as exc:
        return refused(exc)
    except errors.NotFoundError as exc:
        return JSONResponse({"error": str(exc), "is_missing": True}, 409)


async def run_ini(request: Request) -> Response:
    """`POST /v1/calc/run_ini`: run a job file that lies on this machine already, or a .zip."""
    desk, caller = desk_of(request), caller_of(request)
    try:
        async with desk.folder(caller) as folder:
            form = await forms.read(request, folder / models.PARTS, FIELD)
            wishes = read_wishes(form, caller.name)
            path = await asyncio.to_thread(own_files.job_file, caller, form.fields.get("job_ini", ""))
            if path.suffix != ".zip":
                return await _start(request, folder, wishes, Model(None, path))
            await desk.check_room(folder, caller.name, path.stat().st_size)
            limit = desk.settings.web_upload_bytes
            model = await asyncio.to_thread(models.take_archive, path, folder, ANY_JOB_FILE, limit)
            return await _start(request, folder, wishes, model)
    except (errors.UsageError, errors.NotAllowedError) as exc:
        return refused(exc)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person says beside the files.

    Args:
        hazard_job_id: the calculation whose results it starts from.
        notify_to: address that is told of the end.
    """

    hazard_job_id: int | None
    notify_to: str | None


async def _start(
    request: Request, folder: Path, wishes: Wishes, model: Model, choices: RunChoices | None = None
) -> Response:
    """Start a calculation and keep its folder; the answer."""
    desk, caller = desk_of(request), caller_of(request)
    parent = wishes.hazard_job_id
    if parent is not None:
        if await backends_of(request).engine_call("get_job", parent) is None:
            raise errors.UsageError(f"there is no calculation {parent} to start from")
        await guarded.check_sees(backends_of(request), caller, mode_of(request), parent)
    await asyncio.to_thread(models.drop_parts, folder)
    await desk.check_room(folder, caller.name, await asyncio.to_thread(size_of, folder))
    what = ModelRun(
        model.job_ini,
        model.root,
        folder.name,
        wishes.hazard_job_id,
        wishes.notify_to,
        choices or RunChoices(),
    )
    started = await _begin(request, folder, what)
    if started.traceback:
        return JSONResponse({"traceback": started.traceback, "job_id": started.job_id}, 500)
    row = await backends_of(request).engine_call("get_job", started.job_id)
    return JSONResponse(job_row(dict(zip(row.fields, row.values, strict=True))))


async def _begin(request: Request, folder: Path, what: ModelRun) -> Started:
    """Start a calculation; its inputs stay for it, with this service or with the person."""
    desk, caller = desk_of(request), caller_of(request)
    is_given = what.root is not None and bool(whose.of(caller.name, caller.name).person)
    if is_given:
        # The record is there before the files are, so that they are found if this service ends meanwhile.
        await asyncio.to_thread(desk.inputs.give, folder, caller.name)
        await asyncio.to_thread(models.let_read, folder / models.FILES)
    try:
        started = await desk.starter.start(what, caller)
    except errors.PeerUnreachableError:
        raise  # a driver may still be at it: a sweep removes what it has taken
    except errors.QuakeGridError:
        await removals_of(request).inputs_named(folder.name)
        raise
    if started.traceback:
        await removals_of(request).inputs_named(folder.name)
    elif what.root:
        keep = desk.inputs.give if started.is_taken else desk.inputs.keep
        await asyncio.to_thread(keep, folder, caller.name, started.job_id)
    return started


def job_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row as upstream tells it of a calculation that has started: with its number last, by another name."""
    found = answers.row_dict(row)
    for name, value in row.items():
        if isinstance(value, datetime.datetime):
            found[name] = value.astimezone(datetime.UTC).replace(tzinfo=None).isoformat()
    return found | {"job_id": found.pop("id")}


def refused(exc: errors.QuakeGridError) -> Response:
    """What was refused before a calculation was made; with the keys that clients read."""
    status = 403 if isinstance(exc, errors.NotAllowedError) else 400
    return JSONResponse({"error": str(exc), "traceback": [str(exc)], "job_id": None}, status)


def read_wishes(form: Form, name: str) -> Wishes:
    """What a form says beside its files.

    Args:
        form: as it came.
        name: of the person who sends it.
    Raises:
        UsageError: a field has no such value.
        NotAllowedError: the calculation would be another person's.
    """
    owner = form.fields.get("job_owner") or name
    if owner != name:
        raise errors.NotAllowedError(f"you are {name}: you cannot start calculations of {owner[:80]!a}")
    address = form.fields.get("notify_to") or None
    if address and (not address.startswith(("http://", "https://")) or len(address) > MOST_ADDRESS_CHARS):
        raise errors.UsageError("notify_to is an address that begins with http:// or https://")
    text = form.fields.get("hazard_job_id") or None
    if text is not None and not (
        text.isascii() and text.isdigit() and len(text) < 17 and 0 < int(text) <= LARGEST_ID
    ):
        raise errors.UsageError(f"hazard_job_id = {text[:80]!a} is no number of a calculation")
    return Wishes(None if text is None else int(text), address)


async def validate_zip(request: Request) -> Response:
    """`POST /v1/calc/validate_zip`: whether the calculation in an archive could begin."""
    desk, caller = desk_of(request), caller_of(request)
    async with desk.folder(caller) as folder:
        form = await forms.read(request, folder / models.PARTS, FIELD)
        if not form.files:
            return PlainTextResponse("Missing archive file", 400)
        try:
            limit = desk.settings.web_upload_bytes
            model = await asyncio.to_thread(models.take_form, form, folder, ANY_JOB_FILE, limit)
        except errors.UsageError as exc:
            return JSONResponse({"error_msg": str(exc), "error_line": None, "valid": False})
        name = str(model.job_ini.relative_to(folder / models.FILES))
        return await _judged(request, "validate", name, folder)


async def validate_ini(request: Request) -> Response:
    """`POST /v1/calc/validate_ini`: whether a job file that lies on this machine could begin."""
    caller = caller_of(request)
    async with desk_of(request).folder(caller) as folder:
        form = await forms.read(request, folder / models.PARTS, "job_ini")
        path = await asyncio.to_thread(own_files.job_file, caller, form.fields.get("job_ini", ""), (".ini",))
        as_whom = whose.of(caller.name, caller.name)
        return verdict(await views_of(request).run("validate_own", str(path), whose=as_whom))


async def validate_nrml(request: Request) -> Response:
    """`POST /v1/valid/`: whether a text is valid NRML."""
    async with desk_of(request).folder(caller_of(request)) as folder:
        form = await forms.read(request, folder / models.PARTS, FIELD)
        text = form.fields.get("xml_text")
        if not text:
            return PlainTextResponse('Please provide the "xml_text" parameter', 400)
        path = folder / models.FILES / "text.xml"
        path.parent.mkdir()
        await asyncio.to_thread(path.write_bytes, text.encode("utf-8", "replace"))
        return await _judged(request, "nrml", path.name, folder)


async def _judged(request: Request, view: str, name: str, folder: Path) -> Response:
    """What an engine says of a file that was sent."""
    caller, root = caller_of(request), folder / models.FILES
    await asyncio.to_thread(models.let_read, root)
    as_whom = whose.of(caller.name, caller.name)
    return verdict(await views_of(request).run(view, name, whose=as_whom, folder=root))


def verdict(found: dict[str, Any]) -> Response:
    """What the engine says of inputs."""
    return JSONResponse({name: found[name] for name in ("error_msg", "error_line", "valid")})


async def jobs_from_inis(request: Request) -> Response:
    """`GET /v1/calc/jobs_from_inis?ini=PATH…`: calculations that computed these job files; 0 for none."""
    asked = request.query_params.getlist("ini")
    try:
        paths = [
            await asyncio.to_thread(own_files.job_file, caller_of(request), text) for text in asked[:100]
        ]
        as_whom = whose.of(caller_of(request).name, caller_of(request).name)
        found = await views_of(request).run("jobs_from_inis", *map(str, paths), whose=as_whom)
    except errors.QuakeGridError as exc:
        if isinstance(exc, errors.PeerUnreachableError | errors.EngineMissingError):
            raise
        return JSONResponse({"success": [], "error": str(exc)}, 400)
    return JSONResponse({"success": found["job_ids"], "error": ""})


ROUTES = [
    Route("/v1/calc/run", run, methods=["POST"]),
    Route("/v1/calc/run_ini", run_ini, methods=["POST"]),
    Route("/v1/calc/validate_zip", validate_zip, methods=["POST"]),
    Route("/v1/calc/validate_ini", validate_ini, methods=["POST"]),
    Route("/v1/valid/", validate_nrml, methods=["POST"]),
    Route("/v1/calc/jobs_from_inis", jobs_from_inis),
]
# Of these, a body may be as large as an upload; of the text of a file, less.
UPLOAD_PATHS = frozenset({"/v1/calc/run", "/v1/calc/validate_zip"})
TEXT_PATHS = frozenset({"/v1/valid/"})
