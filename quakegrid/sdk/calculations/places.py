"""Where a program's calculations begin and where their files are: on this machine, or on the master.

With the authkey the agent of this machine starts them, reads the inputs where they lie, and exports. With a
credential the inputs go to the master and the files come back, over HTTPS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from quakegrid import errors
from quakegrid.clients import detached_drivers, drivers
from quakegrid.clients.drivers import DriverRequest
from quakegrid.clients.web import calculations, results
from quakegrid.clients.web.calculations import WebWishes
from quakegrid.clients.web.sending import Silence
from quakegrid.clients.web.tokens import CommandToken
from quakegrid.clients.web.web_client import WebClient
from quakegrid.inputs import parcel
from quakegrid.settings.config import Settings


@dataclass(frozen=True, slots=True)
class HowToRun:
    """How to run a calculation.

    Args:
        params: values that take the place of those of the job file.
        hc: number of the calculation that it starts from; None for none.
        weight: share of the cores beside other calculations of this person.
        cores_per_worker: of each worker.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    hc: int | None = None
    weight: float | None = None
    cores_per_worker: int | None = None


class FilePlace(Protocol):
    """Starts calculations, and has their files."""

    def close(self) -> None:
        """Let go of what is open; calculations go on."""

    def start(self, job_ini: Path, how: HowToRun) -> int:
        """Start a calculation that goes on by itself; its number."""

    def export(self, job_id: int, folder: Path, formats: str) -> list[Path]:
        """Write all outputs into a folder; the paths of the files."""

    def extract(self, job_id: int, what: str, folder: Path) -> Path:
        """Write arrays of the datastore into a folder, as .npz; its path."""


def place_of(settings: Settings) -> FilePlace:
    """The place for the calculations of these settings."""
    return Master(settings) if settings.credential is not None else ThisMachine(settings)


class ThisMachine:
    """A machine of the cluster, whose agent forks drivers.

    Args:
        settings: of the cluster.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def close(self) -> None:
        """Nothing is open."""

    def start(self, job_ini: Path, how: HowToRun) -> int:
        """Start a calculation that goes on by itself; its number."""
        request = DriverRequest(engine_argv(job_ini, how), is_detachable=True, cwd=str(job_ini.parent))
        return detached_drivers.start_detached(self._settings, request)[0]

    def export(self, job_id: int, folder: Path, formats: str) -> list[Path]:
        """Write all outputs into a folder; the paths of the files."""
        events = self._drive("export", str(job_id), str(folder), formats)
        failures = [each for event in events for each in event.get("failures", ())]
        if failures:
            raise errors.QuakeGridError(f"not exported: {'; '.join(map(str, failures))}")
        return [Path(path) for event in events if event["event"] == "exported" for path in event["paths"]]

    def extract(self, job_id: int, what: str, folder: Path) -> Path:
        """Write arrays of the datastore into a folder, as .npz; its path."""
        for event in self._drive("extract", str(job_id), what, str(folder)):
            if event["event"] == "exported":
                return Path(event["paths"][0])
        raise errors.QuakeGridError(f"the engine did not extract {what} of job {job_id}")

    def _drive(self, *argv: str) -> list[drivers.Event]:
        """All events of a driver.

        Raises:
            QuakeGridError: it has failed, in its words.
        """
        events: list[drivers.Event] = []
        with drivers.DriverLink(self._settings, DriverRequest(argv, cwd="/")) as link:
            while not events or events[-1]["event"] != "exit":
                events += link.read()
        words = [str(event["message"]) for event in events if event["event"] == "error"]
        if words:
            kind = errors.UsageError if events[-1]["code"] == errors.EXIT_USAGE else errors.QuakeGridError
            raise kind(words[-1])
        return events


def engine_argv(job_ini: Path, how: HowToRun) -> list[str]:
    """The engine's arguments.

    Raises:
        UsageError: a value cannot be passed.
    """
    params = {str(key): str(value) for key, value in how.params.items()}
    for key, value in params.items():
        if "," in value:
            raise errors.UsageError(
                f"params: {key} = {value}: a value with a comma cannot be passed; put it into the job file"
            )
    optional = {
        "--param": ",".join(f"{key}={value}" for key, value in params.items()) or None,
        "--hc": how.hc,
        "--weight": how.weight,
        "--cores-per-worker": how.cores_per_worker,
    }
    given = [(option, str(value)) for option, value in optional.items() if value is not None]
    return ["engine", "--run", str(job_ini), *(each for pair in given for each in pair)]


class Master:
    """The master of a cluster of which this machine is no part.

    Args:
        settings: with a credential.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._tokens = settings, CommandToken(settings)

    def close(self) -> None:
        """End the token of this program."""
        self._tokens.close()

    def _open(self) -> WebClient:
        return WebClient(self._settings, self._tokens)

    def start(self, job_ini: Path, how: HowToRun) -> int:
        """Send what the master has not, and start a calculation that goes on by itself; its number."""
        params = {str(key): str(value) for key, value in how.params.items()}
        wishes = WebWishes(how.hc, params, how.weight, how.cores_per_worker)
        with self._open() as web:
            return calculations.send_and_start(web, parcel.make(job_ini), wishes, Silence())

    def export(self, job_id: int, folder: Path, formats: str) -> list[Path]:
        """Bring all outputs into a folder; the paths of the files."""
        with self._open() as web:
            found = results.export(web, job_id, folder, results.split_formats(formats))
        if found.failures:
            raise errors.QuakeGridError(f"not exported: {'; '.join(found.failures)}")
        return [Path(path) for path in found.paths]

    def extract(self, job_id: int, what: str, folder: Path) -> Path:
        """Bring arrays of the datastore into a folder, as .npz; its path."""
        with self._open() as web:
            return results.extract(web, job_id, what, folder)
