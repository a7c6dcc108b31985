"""The house rules on who imports whom, read from the sources; CONTRIBUTING.md shows the same table."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SERVICES = "quakegrid.services"
MODULES = sorted(path for path in (ROOT / "quakegrid").rglob("*.py") if "_pb2" not in path.name)
# Folders of `quakegrid` from the ground up, and those that each may import. All may import `errors`.
LAYERS: dict[str, set[str]] = {
    "api": set(),
    "internal": {"api"},
    "wire": {"internal"},
    "access": set(),
    "settings": {"access"},
    "jobs": {"api"},
    "inputs": set(),
    "comparison": set(),
    "blobs": {"wire"},
    "journals": set(),
    "machine": {"settings", "blobs"},
    "transport": {"access", "settings", "machine"},
    "files": {"wire", "blobs", "transport"},
    "nodes": {"internal", "transport"},
    "clients": {"access", "api", "internal", "settings", "jobs", "inputs", "machine", "transport", "nodes"},
    "session": {"api", "internal", "wire", "settings", "blobs", "transport", "nodes", "clients"} | {"files"},
    "reports": {"api", "settings", "jobs", "clients"},
    "notify": {"settings", "jobs", "clients"},
    "testing": {"internal", "wire", "settings", "machine", "transport"},
    "health": {"settings", "machine", "clients"},
    "sdk": {"settings", "jobs", "inputs", "blobs", "journals", "machine", "nodes", "clients", "session"},
    "install": {"settings", "machine"},
    "doctor": {"access", "api", "internal", "settings", "transport", "nodes", "clients", "sdk"},
    "engine": {"settings", "jobs", "blobs", "machine", "nodes", "clients", "session", "sdk", "install"}
    | {"journals", "notify", "files", "comparison"},
    "cli": {"access", "settings", "jobs", "machine", "transport", "nodes", "clients", "reports", "health"}
    | {"install", "doctor", "notify", "inputs", "comparison", "journals"},
}
# Deciding code: events in, actions out. No socket, message, clock, thread or log.
PURE = (
    "quakegrid.services.lane.tasks",
    "quakegrid.services.lane.drivers.greetings",
    "quakegrid.services.broker.fleet",
    "quakegrid.services.broker.lanes.ports",
    "quakegrid.services.broker.happenings.notable",
    "quakegrid.services.broker.happenings.ring",
    "quakegrid.services.agent.rules",
    "quakegrid.doctor.checks",
    "quakegrid.access",
    "quakegrid.journals.records",
    "quakegrid.sdk.answers.code",
    "quakegrid.sdk.answers.contents",
    "quakegrid.sdk.answers.keys",
    "quakegrid.inputs.names",
    "quakegrid.inputs.closure",
    "quakegrid.files.rules",
    "quakegrid.comparison",
    "quakegrid.jobs.refusal_words",
    "quakegrid.cli.shell.near_words",
    "quakegrid.cli.shell.ages",
    "quakegrid.cli.views.stages",
    "quakegrid.cli.checks.estimates",
    "quakegrid.cli.checks.upgrade_plan",
    "quakegrid.cli.logs.places",
    "quakegrid.cli.results.old_jobs",
    "quakegrid.cli.views.routine_warnings",
)
IMPURE = (
    "asyncio", "google", "grpc", "logging", "os", "quakegrid.api", "quakegrid.internal", "quakegrid.wire",
    "socket", "subprocess", "threading", "time", "zmq",
)  # fmt: skip
# Only the template loads the seams: importing them means importing the engine.
ENGINE_GATE = "quakegrid.services.agent.template.preload"
# Who imports pyzmq elsewhere may be the first one, and gets slow encryption.
FAST_ZMQ = "quakegrid.transport.fast_zmq"
# Folders of the dbserver, from the ground up, and those that each may import.
DBSERVER_LAYERS: dict[str, set[str]] = {
    "store": set(),
    "people": {"store"},
    "logins": {"store", "people"},
    "deletions": {"store"},
    "jobs": {"store", "deletions"},
    "audit": {"store", "jobs"},
    "logs": {"store", "jobs"},
    "engine": {"store", "deletions", "jobs", "logs"},
    "rpc": {"store", "people", "logins", "deletions", "jobs", "audit", "logs"},
}
# Answers what upstream's `dbcmd` expects; nothing else depends on the folder for it.
ENGINE_CALLS = "quakegrid.services.dbserver.rpc.engine_calls"
MOST_MODULES = 15
# All names of logs, as they are written; none is the root.
LOGS = {"", '"dbserver"'} | {
    f'"quakegrid.{part}"' for part in ("agent", "broker", "lane", "sdk", "service", "session", "web")
}


def module_name(path: Path) -> str:
    """The import path, which equals the file path."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Full names of all that a module imports, wherever in it."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_module(path: Path) -> bool:
    """Whether a file is read and written by people, and is not the picture of its folder."""
    return path.name != "__init__.py" and "_pb2" not in path.name


def is_in(name: str, package: str) -> bool:
    """Whether a name is the package or below it."""
    return name == package or name.startswith(f"{package}.")


def violations(find: Callable[[str, Path], Iterable[str]]) -> dict[str, list[str]]:
    """What breaks a rule, by module; one test for all modules, since each test takes pytest-xdist 5 ms."""
    found = {name: list(find(name, path)) for path in MODULES for name in [module_name(path)]}
    return {name: wrong for name, wrong in found.items() if wrong}


def test_module_imports_only_what_its_place_allows() -> None:
    """Nothing knows a service, services know not each other, the engine is behind its gate."""

    def wrong(name: str, path: Path) -> Iterator[str]:
        own_service = ".".join(name.split(".")[:3]) if is_in(name, SERVICES) else None
        for found in imports(path):
            if is_in(found, SERVICES) and not (own_service and is_in(found, own_service)):
                yield found
            if (
                is_in(found, "quakegrid.engine")
                and name != ENGINE_GATE
                and not is_in(name, "quakegrid.engine")
            ):
                yield found
            if is_in(found, "openquake") and not is_in(name, "quakegrid.engine"):
                yield found
            if is_in(found, "zmq") and name != FAST_ZMQ:
                yield found

    assert violations(wrong) == {}


def test_module_imports_only_lower_layers() -> None:
    """Within `quakegrid`, by the table."""

    def wrong(name: str, path: Path) -> set[str]:
        folder = name.split(".")[1] if name.count(".") and is_in(name, "quakegrid") else ""
        if not folder or folder in {"errors", "services"}:
            return set()
        used = {found.split(".")[1] for found in imports(path) if found.startswith("quakegrid.")}
        return used - LAYERS[folder] - {folder, "errors", "__version__"}

    assert violations(wrong) == {}


def test_dbserver_module_imports_only_lower_layers() -> None:
    """The compatibility with upstream's DbServer is a leaf, which one servicer imports."""

    def wrong(name: str, path: Path) -> set[str]:
        if not is_in(name, "quakegrid.services.dbserver") or name.count(".") < 4:
            return set()
        folder = name.split(".")[3]
        allowed = DBSERVER_LAYERS[folder] | {folder} | ({"engine"} if name == ENGINE_CALLS else set())
        used = {found.split(".")[3] for found in imports(path) if is_in(found, f"{SERVICES}.dbserver")}
        return (used & DBSERVER_LAYERS.keys()) - allowed

    assert violations(wrong) == {}


def test_pure_folders_touch_nothing() -> None:
    """No socket, clock, thread, log or message in code that decides."""

    def wrong(name: str, path: Path) -> list[str]:
        if not any(is_in(name, folder) for folder in PURE):
            return []
        return [found for found in imports(path) if any(is_in(found, outside) for outside in IMPURE)]

    assert violations(wrong) == {}


@pytest.mark.parametrize("top", ["quakegrid", "tests", "benchmarks"])
def test_folder_can_be_seen_at_a_glance(top: str) -> None:
    """At most 15 modules; who adds one more looks for a room."""
    crowded = {}
    for folder in sorted(path for path in (ROOT / top).rglob("*") if path.is_dir()):
        count = len([path for path in folder.glob("*.py") if is_module(path)])
        if count > MOST_MODULES:
            crowded[str(folder.relative_to(ROOT))] = count

    assert crowded == {}


def test_module_says_what_it_is() -> None:
    """Every module opens with a docstring."""

    def wrong(_name: str, path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8")
        return [] if not text or ast.get_docstring(ast.parse(text)) else ["no docstring"]

    assert violations(wrong) == {}


def test_log_has_a_name_that_people_know() -> None:
    """Settings of logs name processes, not modules: a module that moves keeps the name of its log."""

    def wrong(_name: str, path: Path) -> set[str]:
        return set(re.findall(r"getLogger\(([^)]*)\)", path.read_text(encoding="utf-8"))) - LOGS

    assert violations(wrong) == {}


@pytest.mark.parametrize(
    "program", ["quakegrid.services.lane.__main__", "quakegrid.services.agent.template.__main__"]
)
def test_program_that_starts_often_imports_no_grpc(program: str) -> None:
    """Its import takes as long as all else of a lane, and a worker would have it in its memory."""
    code = f"import sys, {program}; print(*{{'grpc', 'asyncio', 'cryptography.x509'}} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
