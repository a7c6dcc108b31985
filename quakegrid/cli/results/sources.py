"""Where results come from: an engine of this machine's agent, or from elsewhere the web service.

Both give parameters, digests of inputs, pictures as numbers, and exports.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from quakegrid import __version__, errors
from quakegrid.cli import exports
from quakegrid.cli.checks import answers
from quakegrid.cli.views.run_report import RunReport

if TYPE_CHECKING:
    from quakegrid.clients.web.web_client import WebClient
    from quakegrid.settings.config import Settings

CSV = "csv"
# What the web service says of a path that it does not have, also an older one (`services/web/app.py`).
NO_ROUTE = "there is nothing at this address"


class ResultSource(Protocol):
    """Gives results of calculations; each call raises QuakeGridError if there are none."""

    def parameters(self, job_id: int) -> dict[str, str]:
        """The parameters as the engine has read them, by name."""

    def inputs(self, job_id: int) -> dict[str, str]:
        """The contents of the input files in few characters, by name."""

    def pictures(self, job_id: int) -> list[dict[str, str]]:
        """Kind and label of each picture that a calculation has."""

    def picture(self, job_id: int, kind: str, chosen: Mapping[str, str]) -> dict[str, Any]:
        """A picture as numbers, of what was chosen."""

    def export_csv(self, job_id: int, folder: Path) -> list[Path]:
        """Write all outputs that can be CSV into a folder; their paths."""


class EngineSource:
    """A driver of this machine's agent for each question.

    Args:
        settings: of the cluster.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def parameters(self, job_id: int) -> dict[str, str]:
        """See `ResultSource`."""
        return _texts(self._ask("parameters", str(job_id)))

    def inputs(self, job_id: int) -> dict[str, str]:
        """See `ResultSource`."""
        return _texts(self._ask("inputs", str(job_id)))

    def pictures(self, job_id: int) -> list[dict[str, str]]:
        """See `ResultSource`."""
        return list(self._ask("drawing", str(job_id), "", "{}"))

    def picture(self, job_id: int, kind: str, chosen: Mapping[str, str]) -> dict[str, Any]:
        """See `ResultSource`."""
        return dict(self._ask("drawing", str(job_id), kind, json.dumps(dict(chosen))))

    def export_csv(self, job_id: int, folder: Path) -> list[Path]:
        """See `ResultSource`."""
        if os.geteuid() == 0:  # where drivers run as people, that of root has another account
            folder = _open_folder(folder)
        return _exported(self._settings, job_id, folder)

    def _ask(self, name: str, *args: str) -> Any:
        return json.loads(answers.ask(self._settings, name, *args)["text"])


class WebSource:
    """The web service of a cluster.

    Args:
        settings: of the cluster.
        web: its service.
    """

    def __init__(self, settings: Settings, web: WebClient) -> None:
        self._settings, self._web = settings, web

    def parameters(self, job_id: int) -> dict[str, str]:
        """See `ResultSource`."""
        return _texts(self._get(f"/calculations/{job_id}/parameters.json"))

    def inputs(self, job_id: int) -> dict[str, str]:
        """See `ResultSource`."""
        return _texts(self._get(f"/calculations/{job_id}/inputs.json"))

    def pictures(self, job_id: int) -> list[dict[str, str]]:
        """See `ResultSource`."""
        return list(self._get(f"/calculations/{job_id}/pictures.json"))

    def picture(self, job_id: int, kind: str, chosen: Mapping[str, str]) -> dict[str, Any]:
        """See `ResultSource`."""
        return dict(self._get(f"/calculations/{job_id}/pictures/{kind}.json", **chosen))

    def export_csv(self, job_id: int, folder: Path) -> list[Path]:
        """See `ResultSource`."""
        return _exported(self._settings, job_id, folder)

    def _get(self, path: str, **query: str) -> Any:
        try:
            return self._web.get(path, **query)
        except errors.NotFoundError as exc:
            if str(exc) != NO_ROUTE:
                raise
            raise errors.NotFoundError(
                f"the web service at {self._web.address} has no {path}; it is older than this command, whose "
                f"version is {__version__}"
            ) from exc


@contextmanager
def open_source(settings: Settings) -> Iterator[ResultSource]:
    """The source of results for this person.

    Args:
        settings: of the cluster.
    """
    if settings.credential is None:
        yield EngineSource(settings)
        return
    from quakegrid.clients.web import web_client  # noqa: PLC0415 - only with a credential

    with web_client.open_web(settings) as web:
        yield WebSource(settings, web)


def _texts(found: Any) -> dict[str, str]:
    """An answer as texts by name.

    Raises:
        PeerError: it is something else, perhaps of another version.
    """
    if not isinstance(found, Mapping):
        raise errors.PeerError("the answer has another form than this command expects")
    return {str(name): str(value) for name, value in found.items()}


def _open_folder(folder: Path) -> Path:
    """A folder below one that others cannot list: only an account that is told its name can write into it."""
    inner = folder / secrets.token_hex(16)
    inner.mkdir()
    inner.chmod(0o1777)
    folder.chmod(0o711)
    return inner


def _exported(settings: Settings, job_id: int, folder: Path) -> list[Path]:
    report = RunReport()
    report.close(exports.write(settings, report, job_id, folder, CSV), 0.0)
    if report.exit_code == errors.EXIT_STOPPED:  # what was exported is not all
        raise answers.StoppedError(f"the export of job {job_id} was stopped")
    if report.error or report.not_exported:
        raise errors.QuakeGridError(
            f"job {job_id} could not be exported: {report.error or report.not_exported[0]}"
        )
    return [Path(path) for path in report.exported]
