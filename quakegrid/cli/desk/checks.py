"""`quakegrid check` with a credential: the master's engine judges the inputs, which travel as an archive."""

from __future__ import annotations

import io
import secrets
import zipfile
from pathlib import Path

from quakegrid import errors
from quakegrid.clients.web import web_client
from quakegrid.inputs import parcel
from quakegrid.settings.config import Settings

# The archive is held in memory; a calculation with more is checked where it lies, or when it runs.
MOST_BYTES = 512 << 20


def refusal(settings: Settings, job_ini: Path) -> str:
    """Why a calculation could not begin; empty if it could.

    Args:
        settings: of the cluster.
        job_ini: the job file.
    Raises:
        UsageError: its inputs are too large for this, or cannot be read.
        QuakeGridError: the service does not answer.
    """
    found = parcel.make(job_ini)
    if found.size_bytes > MOST_BYTES:
        raise errors.UsageError(
            f"its inputs have {found.size_bytes >> 20} MB; more than {MOST_BYTES >> 20} MB are checked on a "
            "machine with the engine only, or by `quakegrid run`"
        )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for item in found.items:
            file.write(item.path, item.name)
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="archive"; filename="job.zip"\r\n'
        "Content-Type: application/zip\r\n\r\n"
    )
    body = head.encode() + archive.getvalue() + f"\r\n--{boundary}--\r\n".encode()
    with web_client.open_web(settings) as web:
        answer = web.ask(
            "POST", "/v1/calc/validate_zip", body, f"multipart/form-data; boundary={boundary}"
        ).document()
    return "" if answer["valid"] else str(answer["error_msg"] or "it is not valid")
