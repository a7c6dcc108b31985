"""A client that asks as QGIS's plugin does: its requests, its time limits, its way to read answers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import requests

# Seconds after which the plugin gives up.
READ_S, RUN_S = 10, 20
# Of a calculation and of an output; a missing one is an error of the plugin.
CALCULATION_KEYS = {"id", "description", "calculation_mode", "owner", "status", "is_running", "size_mb"}
OUTPUT_KEYS = {"id", "name", "type", "outtypes", "size_mb"}
# What it extracts for its layers and their dialogs.
EXTRACTS = (
    "oqparam", "agg_curves?kind=stats&absolute=1", "agg_losses/structural", "asset_risk", "asset_tags",
    "losses_by_asset", "avg_losses?kind=mean", "composite_risk_model.attrs", "damages-rlzs", "damages-stats",
    "disagg_layer", "events", "exposure_metadata", "gmf_data?event_id=0", "hcurves?kind=mean", "hmaps",
    "realizations", "rupture_info?min_mag=0", "sitecol", "uhs", "hcurves", "hmaps?kind=mean",
)  # fmt: skip


class QgisClient:
    """The plugin's requests.

    Args:
        address: host and port of a server.
    """

    def __init__(self, address: str) -> None:
        self._url, self._session = f"http://{address}", requests.Session()

    def version(self) -> tuple[int, ...]:
        """The engine's, as numbers."""
        answer = self._get("/v1/engine_version")
        return tuple(int(part) for part in answer.text.split("-")[0].split("."))

    def calculations(self) -> list[dict[str, Any]]:
        """The list; each has all that is read of it."""
        rows: list[dict[str, Any]] = self._get("/v1/calc/list?relevant=true").json()
        assert all(row.keys() >= CALCULATION_KEYS for row in rows)
        return rows

    def run(self, archive: Path, hazard_job_id: int | None = None, job_ini: str = "") -> int:
        """Send a zip; the calculation's number."""
        data = {} if hazard_job_id is None else {"hazard_job_id": hazard_job_id}
        if job_ini:
            data["job_ini"] = job_ini  # type: ignore[assignment]
        with archive.open("rb") as file:
            answer = self._session.post(
                f"{self._url}/v1/calc/run", files={"archive": file}, data=data, timeout=RUN_S
            )
        assert answer.ok, answer.text
        return int(json.loads(answer.text)["job_id"])

    def status(self, job_id: int) -> dict[str, Any]:
        """The line of one calculation."""
        return dict(self._get(f"/v1/calc/{job_id}/status").json())

    def log(self, job_id: int, start: int) -> list[list[str]]:
        """Lines from one on."""
        return list(self._get(f"/v1/calc/{job_id}/log/{start}:").json())

    def outputs(self, job_id: int) -> list[dict[str, Any]]:
        """What can be downloaded; each has all that is read of it."""
        rows: list[dict[str, Any]] = self._get(f"/v1/calc/{job_id}/results").json()
        assert all(row.keys() >= OUTPUT_KEYS for row in rows)
        return rows

    def download(self, output_id: int, kind: str, folder: Path) -> Path:
        """Save an output under the name that the server gives it."""
        return self._saved(f"/v1/calc/result/{output_id}?export_type={kind}&dload=true", folder)

    def datastore(self, job_id: int, folder: Path) -> Path:
        """Save the datastore."""
        return self._saved(f"/v1/calc/{job_id}/datastore", folder)

    def extract(self, job_id: int, what: str) -> dict[str, Any] | None:
        """Arrays for a layer; None if there are none."""
        answer = self._session.get(f"{self._url}/v1/calc/{job_id}/extract/{what}", verify=False)
        return dict(np.load(io.BytesIO(answer.content), allow_pickle=False)) if answer.ok else None

    def post(self, job_id: int, action: str) -> dict[str, Any]:
        """`abort` or `remove`."""
        answer = self._session.post(f"{self._url}/v1/calc/{job_id}/{action}", timeout=READ_S)
        assert answer.ok, answer.text
        return dict(answer.json())

    def _get(self, path: str) -> requests.Response:
        answer = self._session.get(f"{self._url}{path}", timeout=READ_S, verify=False, allow_redirects=False)
        assert answer.status_code == requests.codes.ok, answer.text
        return answer

    def _saved(self, path: str, folder: Path) -> Path:
        with self._session.get(f"{self._url}{path}", stream=True, verify=False) as answer:
            assert answer.ok, answer.text
            target = folder / answer.headers["content-disposition"].split("filename=")[1]
            with target.open("wb") as file:
                for block in answer.iter_content(1 << 16):
                    file.write(block)
        return target
