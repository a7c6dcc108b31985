"""The file with the last events, a line of JSON each, so that they outlive a broker.

Is not synced to the disk: an event that a failing machine loses is in the logs.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from quakegrid.services.broker.happenings.notable import Happening, HappeningKind
from quakegrid.services.broker.happenings.ring import KEPT, Numbered

FILE_NAME = "events.jsonl"
# A file with more is written anew; also what is read of one.
MOST_LINES = 2 * KEPT
MOST_BYTES = MOST_LINES * 2000
log = logging.getLogger("quakegrid.broker")


class EventFile:
    """Keeps events in a folder.

    Args:
        folder: the state directory.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._line_count = MOST_LINES  # written anew at first, since its end may be broken
        self._is_broken = False

    def read(self) -> list[Numbered]:
        """The events, in order; what is no event is passed over."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, self._path.stat().st_size - MOST_BYTES))
                found = list(_read(file.read(MOST_BYTES).splitlines()))
        except OSError:
            return []
        rising: list[Numbered] = []
        for event in found:
            if not rising or event.id > rising[-1].id:
                rising.append(event)
        return rising[-KEPT:]

    def append(self, added: Iterable[Numbered], everything: Iterable[Numbered]) -> None:
        """Write events.

        Args:
            added: that are new.
            everything: with these, for a file that has become too long.
        """
        lines = [_line(event) for event in added]
        try:
            if self._line_count + len(lines) > MOST_LINES:
                self._rewrite([_line(event) for event in everything])
            else:
                with self._path.open("a") as file:
                    file.writelines(lines)
                self._line_count += len(lines)
            self._is_broken = False
        except OSError as exc:
            if not self._is_broken:
                log.warning("events_not_kept path=%s reason=%s", self._path, exc)
            self._is_broken, self._line_count = True, MOST_LINES

    def _rewrite(self, lines: list[str]) -> None:
        partial = self._path.with_name(f"{FILE_NAME}.part")
        partial.write_text("".join(lines))
        partial.replace(self._path)
        self._line_count = len(lines)


def _line(event: Numbered) -> str:
    happening = dataclasses.asdict(event.happening) | {"kind": event.happening.kind.value}
    return json.dumps({"id": event.id, "time_s": event.time_s, **happening}) + "\n"


def _read(lines: Iterable[bytes]) -> Iterator[Numbered]:
    for line in lines:
        try:
            yield _event(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue


def _event(row: dict[str, Any]) -> Numbered:
    happening = Happening(
        HappeningKind(row["kind"]),
        str(row["words"]),
        bool(row["is_trouble"]),
        str(row["node"]),
        int(row["session_id"]),
        tuple(map(int, row["job_ids"])),
        str(row["user_name"]),
    )
    return Numbered(int(row["id"]), float(row["time_s"]), happening)
