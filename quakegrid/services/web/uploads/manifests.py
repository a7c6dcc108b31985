"""What a program says of files that it sends by their hashes: which they are, and what to run of them. Pure.

A manifest takes the place of a form with files. It is JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from quakegrid.errors import UsageError
from quakegrid.services.web.uploads import names
from quakegrid.services.web.uploads.forms import MOST_FILES

MOST_PARAMETERS = 200
MOST_TEXT_CHARACTERS = 8 << 10
MOST_TOLD = 16
_HASH = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"\w{1,100}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9-]{8,80}")


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file that a calculation needs.

    Args:
        sha256: of its content, 64 hexadecimal digits in lower case.
        size_bytes: of its content.
    """

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A calculation whose files have come before.

    Args:
        files: relative name to hash, the job file first.
        job_file: name of the job file among them, or of a .zip that holds everything.
        request_id: the same if a program asks again since it got no answer.
        fields: what a form has beside its files.
        params: values that take the place of those of the job file.
        weight: share of the cores beside other calculations of this person.
        cores_per_worker: of each worker.
        notify: addresses that are told the end as the cluster's notifications are.
    """

    files: Mapping[str, str]
    job_file: str
    request_id: str
    fields: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    weight: float = 1.0
    cores_per_worker: int = 1
    notify: tuple[str, ...] = ()


def read_wanted(body: bytes, most_bytes: int) -> list[WantedFile]:
    """The files that a program will need.

    Args:
        body: JSON, `{"files": [{"name": …, "size": …, "sha256": …}]}`.
        most_bytes: of all files together.
    Raises:
        UsageError: it is no such thing, or has names or amounts that are not taken.
    """
    listed = _object(body).get("files")
    if not isinstance(listed, list) or not 0 < len(listed) <= MOST_FILES:
        raise UsageError(f"`files` is a list of 1 to {MOST_FILES} files")
    wanted = [_wanted(each) for each in listed]
    if sum(each.size_bytes for each in wanted) > most_bytes:
        raise UsageError(f"the files have more than {most_bytes >> 20} MB ([web] max_upload)")
    return wanted


def _wanted(each: object) -> WantedFile:
    if not isinstance(each, dict):
        raise UsageError("each of `files` has `name`, `size` and `sha256`")
    names.checked(_text(each, "name"))
    size = each.get("size")
    if type(size) is not int or not 0 <= size < 1 << 53:
        raise UsageError("`size` of a file is its number of bytes")
    return WantedFile(checked_hash(_text(each, "sha256")), size)


def checked_hash(text: str) -> str:
    """A hash.

    Raises:
        UsageError: it is none.
    """
    if not _HASH.fullmatch(text):
        raise UsageError(f"{text[:80]!a} is no SHA-256: 64 hexadecimal digits in lower case")
    return text


def read(body: bytes) -> Manifest:
    """What to run.

    Args:
        body: JSON, `{"files": {NAME: SHA256}, "job_ini": NAME, …}`.
    Raises:
        UsageError: it is no such thing, or has names or amounts that are not taken.
    """
    document = _object(body)
    files = _mapping(document, "files", MOST_FILES, names.checked, checked_hash)
    job_file = names.checked(_text(document, "job_ini"))
    if job_file not in files:
        raise UsageError(f"{job_file[:80]!a} is not among the files")
    request_id = _text(document, "request_id")
    if not _ID.fullmatch(request_id):
        raise UsageError(
            "`request_id` has 8 to 80 letters, digits and hyphens, and is another for each calculation"
        )
    ordered = {job_file: files[job_file], **files}
    params = _mapping(document, "params", MOST_PARAMETERS, _key, lambda text: text, default={})
    fields = {
        name: str(document[name])[:MOST_TEXT_CHARACTERS]
        for name in ("hazard_job_id", "notify_to", "job_owner")
        if document.get(name) is not None
    }
    return Manifest(
        ordered,
        job_file,
        request_id,
        fields,
        params,
        _number(document, "weight", 1.0, 0.01, 100),
        int(_number(document, "cores_per_worker", 1, 1, 1024)),
        _addresses(document.get("notify", [])),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"the body is no JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise UsageError("the body is a JSON object")
    return document


def _text(document: Mapping[str, Any], name: str) -> str:
    text = document.get(name)
    if not isinstance(text, str):
        raise UsageError(f"`{name}` is a text")
    return text


def _mapping(
    document: Mapping[str, Any],
    name: str,
    most: int,
    key: Callable[[str], str],
    value: Callable[[str], str],
    default: object = None,
) -> dict[str, str]:
    found = document.get(name, default)
    if not isinstance(found, dict) or len(found) > most:
        raise UsageError(f"`{name}` is an object with at most {most} texts")
    return {key(each): value(_bounded(text, name)) for each, text in found.items()}


def _bounded(text: object, name: str) -> str:
    if not isinstance(text, str) or len(text) > MOST_TEXT_CHARACTERS or "\0" in text:
        raise UsageError(f"a value of `{name}` is a text of at most {MOST_TEXT_CHARACTERS} characters")
    return text


def _key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise UsageError(f"{text[:80]!a} is no name of a parameter")
    return text


def _number(document: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    found = document.get(name, default)
    if type(found) not in (int, float) or not least <= found <= most:
        raise UsageError(f"`{name}` is a number from {least:g} to {most:g}")
    return float(found)


def _addresses(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or len(found) > MOST_TOLD:
        raise UsageError(f"`notify` is a list of at most {MOST_TOLD} addresses")
    for each in found:
        if not isinstance(each, str) or len(each) > 2000 or not each.startswith(("http://", "https://")):
            raise UsageError("`notify` has addresses that begin with http:// or https://")
    return tuple(found)
