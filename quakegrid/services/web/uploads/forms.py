"""Reads the fields and files of a request; files go to disk as they come, so a large one takes no memory.

Knows no routes. The Gate has refused a body whose announced length is too large before this begins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qsl

from python_multipart import MultipartParser, multipart
from python_multipart.exceptions import FormParserError
from starlette.requests import ClientDisconnect, Request

from quakegrid.errors import UsageError
from quakegrid.services.web.uploads import names

MOST_FILES = 10_000
MOST_FIELDS = 100
MOST_FIELD_BYTES = 8 << 20
MOST_HEADER_BYTES = 8 << 10
# Files are written in blocks of at least this size.
BLOCK_BYTES = 1 << 20
MOST_OPEN = 64
# A sender who sends nothing for this time has gone.
SILENCE_S = 60.0
# After this time an upload must have come at this pace: it keeps others waiting.
GRACE_S, LEAST_BYTES_PER_S = 60.0, 2048


@dataclass(slots=True)
class Form:
    """What came.

    Args:
        fields: name to text; the last one counts.
        files: of the wanted field: relative name to the path it was written to, in the order they came.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)


async def read(request: Request, folder: Path, wanted: str) -> Form:
    """Read a form.

    Args:
        request: whose body is a form, with files or without.
        folder: where files are written, under names of our own.
        wanted: the field whose files are kept; those of others are read and dropped.
    Raises:
        UsageError: it is no form, or has names or amounts that are not taken.
    """
    kind, options = multipart.parse_options_header(request.headers.get("content-type", ""))
    if kind == b"application/x-www-form-urlencoded":
        return Form(fields=await _simple_fields(request))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise UsageError("send a form: multipart/form-data with a boundary")
    receiver = _Receiver(boundary, folder, wanted)
    try:
        async for chunk in chunks(request):
            await receiver.take(chunk)
        return await receiver.end()
    except FormParserError as exc:
        raise UsageError(f"the form is broken: {exc}") from exc
    finally:
        receiver.close()


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """The body of a request as it comes, to its end.

    Raises:
        UsageError: the sender has gone, or sends nothing for a while.
    """
    stream = aiter(request.stream())
    begin_s, size = time.monotonic(), 0
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                chunk = await anext(stream, b"")
        except (TimeoutError, ClientDisconnect) as exc:
            raise UsageError("the upload broke off") from exc
        if not chunk:
            return
        size += len(chunk)
        taken_s = time.monotonic() - begin_s
        if taken_s > GRACE_S and size < taken_s * LEAST_BYTES_PER_S:
            raise UsageError(f"the upload came with less than {LEAST_BYTES_PER_S} bytes a second")
        yield chunk


async def _simple_fields(request: Request) -> dict[str, str]:
    body = b"".join([chunk async for chunk in chunks(request)])
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as exc:
        raise UsageError(f"the form is broken: {exc}") from exc
    return dict(pairs)


class _Receiver:
    """Takes a multipart body, piece by piece.

    Args:
        boundary: between parts.
        folder: where files are written.
        wanted: the field whose files are kept.
    """

    def __init__(self, boundary: bytes, folder: Path, wanted: str) -> None:
        self._folder, self._wanted = folder, wanted
        self._form = Form()
        self._header = [b"", b""]
        self._disposition = b""
        self._name, self._text = "", bytearray()
        self._is_file, self._part_count = False, 0
        self._target: BinaryIO | None = None
        self._pending: list[tuple[BinaryIO, bytes]] = []
        self._pending_bytes = 0
        self._open: list[BinaryIO] = []
        self._is_complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._add_header(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._add_header(1, data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": lambda data, start, end: self._add(data[start:end]),
                "on_part_end": self._end_part,
                "on_end": self._complete,
            },
        )

    async def take(self, chunk: bytes) -> None:
        """Take a piece of the body."""
        self._parser.write(chunk)
        if self._pending_bytes >= BLOCK_BYTES or len(self._open) > MOST_OPEN:
            await self._write()

    async def end(self) -> Form:
        """What came, when all has come.

        Raises:
            UsageError: it was cut short.
        """
        self._parser.finalize()
        if not self._is_complete:
            raise UsageError("the form was cut short")
        await self._write()
        return self._form

    def close(self) -> None:
        """Close what is open."""
        for file in self._open:
            file.close()

    async def _write(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0

        def write() -> None:
            for file, data in pending:
                file.write(data)
            for file in self._open:
                if file is self._target:
                    file.flush()
                else:
                    file.close()

        try:
            await asyncio.to_thread(write)
        except OSError as exc:
            raise UsageError(f"the upload cannot be stored: {exc.strerror}") from exc
        self._open = [file for file in self._open if not file.closed]

    def _begin_part(self) -> None:
        self._part_count += 1
        if self._part_count > MOST_FILES + MOST_FIELDS:
            raise UsageError(f"a form has at most {MOST_FILES} files")
        self._disposition, self._header = b"", [b"", b""]
        self._text, self._is_file = bytearray(), False

    def _add_header(self, index: int, data: bytes) -> None:
        self._header[index] += data
        if len(self._header[index]) > MOST_HEADER_BYTES:
            raise UsageError("a header of the form is too long")

    def _end_header(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]
        self._header = [b"", b""]

    def _end_headers(self) -> None:
        _, options = multipart.parse_options_header(self._disposition)
        try:
            self._name = options[b"name"].decode()
            file_name = options[b"filename"].decode() if b"filename" in options else None
        except (KeyError, UnicodeDecodeError):
            raise UsageError("a part of the form has no name") from None
        self._is_file = file_name is not None
        if file_name and self._name == self._wanted:
            self._begin_file(names.checked(file_name))

    def _begin_file(self, name: str) -> None:
        if name in self._form.files:
            raise UsageError(f"{name} came twice")
        if len(self._form.files) >= MOST_FILES:
            raise UsageError(f"a form has at most {MOST_FILES} files")
        path = self._folder / f"part-{len(self._form.files)}"
        self._target = path.open("xb")
        self._open.append(self._target)
        self._form.files[name] = path

    def _add(self, data: bytes) -> None:
        if self._target is not None:
            self._pending.append((self._target, data))
            self._pending_bytes += len(data)
        elif not self._is_file:
            self._text += data
            if len(self._text) > MOST_FIELD_BYTES:
                raise UsageError(f"a field has at most {MOST_FIELD_BYTES >> 20} MB")

    def _end_part(self) -> None:
        self._target = None
        if not self._is_file:
            if len(self._form.fields) >= MOST_FIELDS:
                raise UsageError(f"a form has at most {MOST_FIELDS} fields")
            self._form.fields[self._name] = self._text.decode("utf-8", "replace")

    def _complete(self) -> None:
        self._is_complete = True
