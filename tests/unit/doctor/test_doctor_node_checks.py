"""Checks of one machine: facts in, findings out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quakegrid.doctor.checks import node_checks
from quakegrid.doctor.checks.findings import Finding, Severity, in_order, would_break
from quakegrid.doctor.facts import AuthkeyFacts, DiskFacts, NodeFacts

GIB = 1 << 30
MIB = 1 << 20
SOUND = NodeFacts(
    node="n1",
    machine="boot n1",
    core_count=8,
    memory_bytes=32 * GIB,
    governors=("acpi-cpufreq performance",),
    open_file_limit=65536,
    process_limit=4096,
    authkey=AuthkeyFacts(43, is_guessable=False, fingerprint="abc", disk_fingerprint="abc"),
    shared_dir="/shared",
    disks=(DiskFacts("shared_dir", "/shared", 100 * GIB, 50 * GIB),),
    sqlite_version="3.50.2",
)


def the_finding(facts: NodeFacts, check: str) -> Finding:
    """The one finding of a check."""
    (found,) = [finding for finding in node_checks.check_node(facts, "n1") if finding.check == check]
    assert found.node == "n1"
    return found


def test_sound_machine_has_nothing_but_fine_checks() -> None:
    """Every check says that it looked."""
    found = node_checks.check_node(SOUND, "n1")

    assert {finding.severity for finding in found} == {Severity.OK}
    assert not would_break(found)
    assert len(found) == 15


@pytest.mark.parametrize(
    ("facts", "check", "severity", "word"),
    [
        ({"swap_bytes": 2 * GIB, "swap_used_bytes": GIB}, "swap", Severity.SLOWS, "2.0 GiB of swap"),
        ({"overcommit_mode": 2}, "overcommit", Severity.BREAKS, "vm.overcommit_memory is 2"),
        ({"cpu_limit": 2.5}, "cpu_limit", Severity.SLOWS, "2.5 cores, and it offers 8"),
        ({"memory_limit_bytes": 2 * GIB}, "memory_limit", Severity.SLOWS, "its control group has 2.0 GiB"),
        ({"worker_memory_bytes": 5 * GIB}, "memory_limit", Severity.BREAKS, "8 workers may use 5.0 GiB"),
        ({"governors": ("acpi-cpufreq powersave",)}, "cpu_governor", Severity.SLOWS, "acpi-cpufreq"),
        ({"has_slow_encryption": True}, "encryption", Severity.SLOWS, "PyNaCl"),
        ({"open_file_limit": 100}, "open_files", Severity.BREAKS, "100 open files"),
        ({"open_file_limit": 500}, "open_files", Severity.NOTE, "500 open files"),
        ({"process_limit": 50}, "processes", Severity.BREAKS, "50 processes"),
        ({"task_limit": 60}, "processes", Severity.BREAKS, "60 processes"),
        ({"open_key_files": ("/x (mode 0644)",)}, "key_file", Severity.BREAKS, "/x (mode 0644)"),
        (
            {"disks": (DiskFacts("state_dir", "/home/a", 9 * GIB, 9 * GIB, "", "nfs4"),)},
            *("network_disk", Severity.NOTE, "state_dir /home/a is on a network disk (nfs4)"),
        ),
        (
            {"disks": (DiskFacts("database", "/db", 9 * GIB, 9 * GIB, "", "cifs"),)},
            *("network_disk", Severity.NOTE, "database /db"),
        ),
        ({"is_root": True}, "root", Severity.NOTE, "as root"),
        ({"sqlite_version": "3.40.1"}, "sqlite", Severity.NOTE, "SQLite 3.40.1"),
        ({"sqlite_version": "3.9"}, "sqlite", Severity.NOTE, "SQLite 3.9"),
        ({"settings_error": "/x: no port"}, "settings", Severity.BREAKS, "no port"),
        ({"silent_probes": ("folder shared_dir /nfs",)}, "silence", Severity.BREAKS, "/nfs"),
        ({"silent_probes": ("name n9",)}, "silence", Severity.BREAKS, "name n9"),
    ],
)
def test_fault_is_found(facts: dict[str, object], check: str, severity: Severity, word: str) -> None:
    """Each says what it is, what it breaks and how to mend it."""
    found = the_finding(replace(SOUND, **facts), check)  # type: ignore[arg-type]

    assert found.severity is severity
    assert word in found.what
    assert found.breaks
    assert found.remedy


@pytest.mark.parametrize(
    ("facts", "check"),
    [
        ({"governors": ("intel_pstate powersave",)}, "cpu_governor"),  # it chooses by itself
        ({"governors": ()}, "cpu_governor"),
        ({"cpu_limit": 8.0}, "cpu_limit"),
        ({"memory_limit_bytes": 64 * GIB}, "memory_limit"),
        ({"open_file_limit": -1}, "open_files"),
        ({"process_limit": -1}, "processes"),
    ],
)
def test_what_looks_like_a_fault_and_is_none_is_fine(facts: dict[str, object], check: str) -> None:
    """No limit, or one that does not bind, is none."""
    assert the_finding(replace(SOUND, **facts), check).severity is Severity.OK  # type: ignore[arg-type]


def test_master_that_is_no_node_has_no_cores_to_check() -> None:
    """Limits per core do not count there."""
    found = node_checks.check_node(replace(SOUND, core_count=0, cpu_limit=0.5), "m")

    assert not [finding for finding in found if finding.check in ("cpu_limit", "memory_limit")]


@pytest.mark.parametrize(
    ("key", "word", "severity"),
    [
        (AuthkeyFacts(0, is_guessable=True), "no authkey", Severity.BREAKS),
        (AuthkeyFacts(8, False, "f", "f"), "8 characters", Severity.BREAKS),
        (AuthkeyFacts(18, True, "f", "f"), "can be guessed", Severity.BREAKS),
    ],
)
def test_weak_authkey_is_found(key: AuthkeyFacts, word: str, severity: Severity) -> None:
    """None, a short one, one that everybody would try."""
    found = the_finding(replace(SOUND, authkey=key), "authkey")

    assert found.severity is severity
    assert word in found.what
    assert key.length == 0 or "services refuse to start" in found.breaks


def test_weak_authkey_on_loopback_is_as_bad() -> None:
    """A cluster of one machine lets in whoever of its users guesses the key."""
    facts = replace(SOUND, is_embedded=True, authkey=AuthkeyFacts(8, False, "f", "f"))

    assert the_finding(facts, "authkey").severity is Severity.BREAKS


def test_authkey_that_changed_on_the_disk_is_found() -> None:
    """The agent would not be let in after its next start."""
    changed = replace(SOUND.authkey, disk_fingerprint="xyz")

    found = the_finding(replace(SOUND, authkey=changed), "settings")

    assert found.severity is Severity.BREAKS
    assert "xyz" in found.what
    assert "abc" in found.what


def test_settings_that_could_not_be_read_in_time_are_no_changed_key() -> None:
    """Silence is told as silence."""
    key = replace(SOUND.authkey, disk_fingerprint="")

    found = the_finding(replace(SOUND, authkey=key, silent_probes=("settings",)), "settings")

    assert found.severity is Severity.OK


@pytest.mark.parametrize(
    ("disk", "check", "severity"),
    [
        (DiskFacts("shared_dir", "/s", error="No such file or directory"), "shared_dir", Severity.BREAKS),
        (DiskFacts("shared memory", "/dev/shm", error="No such file"), "shared_memory", Severity.SLOWS),
        (DiskFacts("shared memory", "/dev/shm", GIB, 10 * MIB), "shared_memory", Severity.SLOWS),
        (DiskFacts("temporary", "/tmp", GIB, 10 * MIB), "disk_space", Severity.BREAKS),
        (DiskFacts("temporary", "/tmp", GIB, 500 * MIB), "disk_space", Severity.NOTE),
        (DiskFacts("database", "/db", error="no permission"), "disk_space", Severity.BREAKS),
        (DiskFacts("state_dir", "/state", GIB, 0), "disk_space", Severity.BREAKS),
        (DiskFacts("attic", "/attic", GIB, 0), "disk_space", Severity.OK),  # from a newer QuakeGrid
    ],
)
def test_disk_is_judged_by_what_it_is_for(disk: DiskFacts, check: str, severity: Severity) -> None:
    """Little room breaks, less than one would like is a note; without shared memory it only gets slower."""
    found = node_checks.check_disk(disk, "n1")

    assert (found.check, found.severity) == (check, severity)
    assert disk.path in found.what
    assert severity is Severity.OK or found.remedy


@pytest.mark.parametrize(
    ("count", "text"), [(512, "0 KiB"), (3 << 20, "3.0 MiB"), (3 << 29, "1.5 GiB"), (5 << 40, "5.0 TiB")]
)
def test_size_is_for_people(count: int, text: str) -> None:
    """The largest unit that fits."""
    assert node_checks.size(count) == text


def test_findings_come_with_the_worst_first() -> None:
    """Their order stays otherwise."""
    severities = [Severity.OK, Severity.NOTE, Severity.BREAKS, Severity.SLOWS, Severity.BREAKS]
    findings = [Finding(str(number), severity, "n", "") for number, severity in enumerate(severities)]

    assert [finding.check for finding in in_order(findings)] == ["2", "4", "3", "1", "0"]
    assert would_break(findings)


def test_doubtful_settings_are_noted() -> None:
    """What the settings' reader suspects reaches whoever runs the doctor."""
    facts = replace(SOUND, settings_warnings=("[brokr] has no effect here; is [broker] meant?",))

    (found,) = node_checks.check_settings(facts, "n1")

    assert (found.severity, found.what) == (Severity.NOTE, "[brokr] has no effect here")
    assert found.remedy == "is [broker] meant?"
