"""Checks of rights: of other users of a machine, and of calculations. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator

from quakegrid.doctor.checks.findings import Finding, Severity, fine
from quakegrid.doctor.facts import NodeFacts

# The first version without CVE-2025-6965: in older ones a query could make SQLite write beyond its memory.
SAFE_SQLITE = (3, 50, 2)


def check_key_files(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """Who reads the key may run programs on every node."""
    if not facts.authkey.length:
        return
    if not facts.open_key_files:
        yield fine("key_file", label, "the authkey's file is closed to other users")
        return
    files = ", ".join(facts.open_key_files)
    yield Finding(
        "key_file",
        Severity.BREAKS,
        label,
        f"others than the services and their group may read or change {files}, which holds the authkey",
        "services refuse to start with this key; whoever reads it can run programs as them on every node",
        "`chmod go= FILE`; if others have used the machine meanwhile, make a new key: `quakegrid authkey`",
    )


def check_root(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """Calculations run with the rights of the agent."""
    if not facts.is_root:
        yield fine("root", label, "its processes do not run as root")
        return
    yield Finding(
        "root",
        Severity.NOTE,
        label,
        "it runs as root, and calculations with it",
        "nothing; but a mistake in a model or in anybody's code can change the whole machine",
        "run it as a user of its own, as `quakegrid install` does",
    )


def check_sqlite(facts: NodeFacts, label: str) -> Iterator[Finding]:
    """Users may send queries, so errors of the library can be exploited."""
    if not facts.sqlite_version:  # not the master, or an older peer
        return
    if _numbers(facts.sqlite_version) >= SAFE_SQLITE:
        yield fine("sqlite", label, f"SQLite {facts.sqlite_version}")
        return
    wanted = ".".join(map(str, SAFE_SQLITE))
    yield Finding(
        "sqlite",
        Severity.NOTE,
        label,
        f"the dbserver uses SQLite {facts.sqlite_version}; mistakes in it are mended in {wanted}",
        "nothing; but a query of somebody with the key could damage the dbserver's memory (CVE-2025-6965)",
        "install the system's updates, which may have the mend under an older number, or a Python with a "
        "newer SQLite",
    )


CHECKS = (check_key_files, check_root, check_sqlite)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
