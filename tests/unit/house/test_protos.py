"""The contracts in protos/: what `buf lint` does not ask, and that `buf breaking` finds what breaks them.

`make check` runs both, with protos/buf.yaml. protos/lock.json has the contracts that nothing may break:
`make protos` adds what is new, and `make protos-lock` writes the file anew from what there is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.unit.house.test_imports import LAYERS

PROTOS = Path(__file__).parents[3] / "protos"
BUF = Path(sysconfig.get_path("scripts")) / "buf"
FILES: dict[str, dict[str, Any]] = {
    file["name"]: file
    for file in json.loads((PROTOS / "lock.json").read_text(encoding="utf-8"))["file"]
    if file["name"].startswith("quakegrid/")
}
FLEET = "quakegrid/api/v1/fleet.proto"
FIELD = "  int32 session_count = 3;\n"


def test_lock_knows_every_file() -> None:
    """`make protos` was run after the last file came or went."""
    assert sorted(FILES) == sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))


@pytest.mark.parametrize("name", sorted(FILES))
def test_file_imports_only_lower_layers(name: str) -> None:
    """Public contracts stand alone; internal ones may use their values."""
    layer = name.split("/")[1]

    imported = {
        found.split("/")[1] for found in FILES[name].get("dependency", []) if found.startswith("quakegrid/")
    }

    assert imported <= LAYERS[layer] | {layer}


@pytest.mark.parametrize("name", sorted(FILES))
def test_file_has_one_service_with_its_messages(name: str) -> None:
    """Whoever reads a service finds all that its calls take and answer in the same file."""
    file = FILES[name]
    services = file.get("service", [])
    own = {f".{file['package']}.{message['name']}" for message in file.get("messageType", [])}

    used = {
        method[way]
        for service in services
        for method in service["method"]
        for way in ("inputType", "outputType")
    }

    assert len(services) <= 1
    assert used <= own


@pytest.mark.parametrize(
    ("old", "new", "is_found"),
    [
        pytest.param(FIELD, "", True, id="a field is gone"),
        pytest.param(FIELD, "  int64 session_count = 33;\n", True, id="a number changed"),
        pytest.param(FIELD, "  string session_count = 3;\n", True, id="a type changed"),
        pytest.param(FIELD, "  int32 sessions = 3;\n", True, id="a name changed"),
        pytest.param(
            "  rpc GetMetrics(GetMetricsRequest) returns (GetMetricsResponse);\n",
            "",
            True,
            id="a call is gone",
        ),
        pytest.param(FIELD, '  reserved 3;\n  reserved "session_count";\n', False, id="a field is reserved"),
        pytest.param(FIELD, f"{FIELD}  int32 new_count = 99;\n", False, id="a field is new"),
    ],
)
def test_breaking_change_is_found(tmp_path: Path, old: str, new: str, is_found: bool) -> None:
    """What would break a program that was built before, and only that."""
    changed = tmp_path / "protos"
    shutil.copytree(PROTOS, changed)
    text = (changed / FLEET).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (changed / FLEET).write_text(text.replace(old, new), encoding="utf-8")

    said = subprocess.run(
        [BUF, "breaking", changed, "--against", PROTOS / "lock.json"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert ("fleet.proto" in said.stdout) == is_found, said.stdout
