"""Bodies of requests as browsers, QGIS and scripts send them, and archives to send."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path


def multipart(
    fields: Mapping[str, str], files: Iterable[tuple[str, str, bytes]] = ()
) -> tuple[bytes, dict[str, str]]:
    """A body and its headers.

    Args:
        fields: name to text.
        files: field, name of the file, content.
    """
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()
        for name, text in fields.items()
    ]
    for field, name, content in files:
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        parts.append(head.encode() + content + b"\r\n")
    body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """A .zip of these files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def archive_of(folder: Path) -> bytes:
    """A .zip of all files below a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return archive({str(path.relative_to(folder)): path.read_bytes() for path in paths})
