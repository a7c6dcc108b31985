"""Results from the web service: outputs as files, whole or not at all, and arrays of a datastore."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from quakegrid import errors
from quakegrid.clients.web.web_client import WebClient

STAGING_PREFIX = ".quakegrid-export-"


@dataclass(frozen=True, slots=True)
class WebOutput:
    """An output that can be exported.

    Args:
        id: of the output.
        name: for people.
        ds_key: where it is in the datastore.
        formats: that it can be exported in.
    """

    id: int
    name: str
    ds_key: str
    formats: tuple[str, ...]


@dataclass(slots=True)
class Exported:
    """What came of exports: paths of files, and a line for each output that could not be exported."""

    paths: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def outputs(web: WebClient, job_id: int) -> list[WebOutput]:
    """The outputs of a calculation.

    Raises:
        NotFoundError: there are none.
        PeerError: the answer has another form, perhaps that of another version.
    """
    found = web.get(f"/v1/calc/{job_id}/results")
    try:
        return [
            WebOutput(int(each["id"]), each["name"], each["type"], tuple(each["outtypes"])) for each in found
        ]
    except (KeyError, TypeError, ValueError) as exc:
        raise errors.PeerError(
            "the web service lists outputs in another form than this command expects"
        ) from exc


def split_formats(text: str) -> list[str]:
    """The formats of a list with commas or blanks, as job files and people write it."""
    return text.replace(",", " ").split()


def export(
    web: WebClient,
    job_id: int,
    folder: Path,
    formats: Iterable[str],
    on_bytes: Callable[[int], None] | None = None,
) -> Exported:
    """Bring all outputs of a calculation into a folder, each in all formats that it has.

    Args:
        web: where they are.
        job_id: the calculation.
        folder: is made if it is not there.
        formats: such as csv; an output that has none of them is left out.
        on_bytes: told how many more bytes have come.
    Raises:
        UsageError: no output has one of the formats.
        QuakeGridError: the folder cannot be written, or the service does not answer.
    """
    wanted = list(formats)
    listed = outputs(web, job_id)
    chosen = [(each, kind) for each in listed for kind in wanted if kind in each.formats]
    if not chosen:
        there_are = ", ".join(sorted({kind for each in listed for kind in each.formats}))
        raise errors.UsageError(
            f"job {job_id} has no output that can be exported as {','.join(wanted)}; there are {there_are}"
        )
    found = Exported()
    _make(folder)
    with tempfile.TemporaryDirectory(prefix=STAGING_PREFIX, dir=folder) as name:
        for output, kind in chosen:
            try:
                found.paths += _bring(web, output, kind, Path(name), on_bytes)
            except (errors.PeerUnreachableError, errors.CredentialError):
                raise
            except errors.QuakeGridError as exc:
                found.failures.append(f"{output.ds_key} as {kind}: {exc}")
    found.paths.sort()
    return found


def _bring(
    web: WebClient, output: WebOutput, kind: str, staging: Path, on_bytes: Callable[[int], None] | None
) -> list[str]:
    """One output in one format; the paths of its files."""
    path = f"/v1/calc/result/{output.id}"
    name, target = web.download(path, staging, on_bytes, export_type=kind)
    name = name.removeprefix(f"output-{output.id}-")
    folder = staging.parent
    try:
        if name != f"{output.ds_key}-{kind}.zip":
            target.replace(folder / name)
            return [str(folder / name)]
        paths = []
        with zipfile.ZipFile(target) as archive:
            for member in archive.infolist():
                place = folder / Path(member.filename).name
                with archive.open(member) as source, (staging / "member").open("wb") as unpacked:
                    shutil.copyfileobj(source, unpacked)
                (staging / "member").replace(place)
                paths.append(str(place))
        target.unlink()
    except OSError as exc:
        raise errors.QuakeGridError(f"cannot be written into {folder}: {exc.strerror}") from exc
    except zipfile.BadZipFile as exc:
        raise errors.PeerError(f"what came is no archive: {exc}") from exc
    return paths


def extract(web: WebClient, job_id: int, what: str, folder: Path, **query: str) -> Path:
    """Arrays of a datastore, as a file of numpy's format .npz.

    Raises:
        NotFoundError: there is no such calculation.
        QuakeGridError: the engine cannot extract this, in its words.
    """
    return web.download(f"/v1/calc/{job_id}/extract/{what}", folder, None, **query)[1]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise errors.QuakeGridError(f"cannot export into {folder}: {exc.strerror}") from exc
    if not os.access(folder, os.W_OK):
        raise errors.QuakeGridError(f"cannot export into {folder}: it is not yours to write")
