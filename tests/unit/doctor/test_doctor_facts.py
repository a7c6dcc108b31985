"""Facts on their way: the codec, keys that can be guessed, nonces, control groups, probes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from quakegrid.doctor import codec, control_groups, facts, gathering, key_files, nonces, probes
from quakegrid.doctor.control_groups import Limits
from quakegrid.internal.v1 import examination_pb2
from quakegrid.settings import authkeys, config

FACTS = facts.NodeFacts(
    node="n1",
    machine="boot n1",
    versions=facts.Versions("3.11.7", "0.1.0", "", "2.2.6"),
    core_count=8,
    memory_limit_bytes=1 << 40,
    cpu_limit=1.5,
    governors=("a b", "c d"),
    authkey=facts.AuthkeyFacts(43, False, "abc", "xyz"),
    disks=(facts.DiskFacts("temporary", "/tmp", 2, 1, "full", "ext4"),),
    names=(facts.NameFacts("n1", "", ("10.0.0.1", "::1")),),
    ports=(facts.PortFacts("lane", "m", 1912, facts.PortState.SILENT, is_expected=False),),
    silent_probes=("settings",),
    sqlite_version="3.50.2",
    open_key_files=("/x (mode 0644)",),
    is_root=True,
)


@pytest.mark.parametrize("value", [facts.NodeFacts(), FACTS])
def test_facts_travel_unchanged(value: facts.NodeFacts) -> None:
    """Through bytes and back."""
    data = codec.encode_facts(value).SerializeToString()

    assert codec.decode_facts(examination_pb2.NodeFacts.FromString(data)) == value


def test_port_states_have_the_numbers_of_the_proto() -> None:
    """The codec passes them on as they are."""
    named = {name.removeprefix("PORT_STATE_"): number for name, number in examination_pb2.PortState.items()}

    assert named == {state.name: state.value for state in facts.PortState}


def test_unknown_port_state_is_none_in_particular() -> None:
    """A newer peer may know more."""
    assert facts.PortState(99) is facts.PortState.UNSPECIFIED


def test_nonce_is_read_only_by_a_name_that_a_doctor_makes(tmp_path: Path) -> None:
    """A peer cannot ask for other files."""
    text = "0f" * 16
    (tmp_path / nonces.nonce_name(text)).write_text(text)
    (tmp_path / "secret").write_text("secret")

    assert nonces.read_nonce(str(tmp_path), nonces.nonce_name(text)) == text
    assert nonces.read_nonce(str(tmp_path), nonces.nonce_name("00" * 16)) == ""
    for name in ("secret", "../secret", f"{nonces.nonce_name(text)}/../secret"):
        assert nonces.read_nonce(str(tmp_path), name) == ""


def write(path: Path, text: str) -> None:
    """A file with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_narrowest_limit_of_the_unified_groups_counts(tmp_path: Path) -> None:
    """A group above may allow less than our own."""
    write(tmp_path / "membership", "0::/site/job\n")
    write(tmp_path / "groups/site/job/memory.max", "max\n")
    write(tmp_path / "groups/site/job/cpu.max", "400000 100000\n")
    write(tmp_path / "groups/site/memory.max", "1000\n")
    write(tmp_path / "groups/site/cpu.max", "150000 100000\n")
    write(tmp_path / "groups/site/pids.max", "77\n")
    write(tmp_path / "groups/cpu.max", "max 100000\n")

    assert control_groups.read_limits(tmp_path / "membership", tmp_path / "groups") == Limits(1000, 1.5, 77)


def test_limits_of_older_groups_count_too(tmp_path: Path) -> None:
    """One hierarchy for each kind; the largest number of pages is no limit."""
    write(tmp_path / "membership", "4:memory:/job\n3:cpu,cpuacct:/job\n2:pids:/job\n1:name=systemd:/\n")
    write(tmp_path / "groups/memory/job/memory.limit_in_bytes", "2000\n")
    write(tmp_path / "groups/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(tmp_path / "groups/cpu,cpuacct/job/cpu.cfs_quota_us", "50000\n")
    write(tmp_path / "groups/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n")
    write(tmp_path / "groups/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "groups/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    write(tmp_path / "groups/pids/pids.max", "max\n")

    assert control_groups.read_limits(tmp_path / "membership", tmp_path / "groups") == Limits(2000, 0.5, -1)


def test_machine_without_control_groups_has_no_limits(tmp_path: Path) -> None:
    """Nothing is mounted there."""
    assert control_groups.read_limits(tmp_path / "none", tmp_path) == Limits()


def test_look_that_hangs_is_not_waited_for_nor_begun_again() -> None:
    """It is named; the others' answers count."""
    ended = threading.Event()
    begun: list[str] = []

    def hang() -> str:
        begun.append("hang")
        ended.wait()
        return "late"

    looks = probes.Probes(timeout_s=0.3)

    first = looks.run({"hang": hang, "quick": lambda: 1})
    second = looks.run({"hang": hang})
    ended.set()

    assert first == ({"quick": 1}, ["hang"])
    assert second == ({}, ["hang"])
    assert begun == ["hang"]


def test_look_that_raises_raises() -> None:
    """A bug is no silence."""

    def fail() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        probes.Probes().run({"fail": fail})


def test_folder_that_will_be_made_is_looked_at_where_it_will_be(tmp_path: Path) -> None:
    """State and temporary folders are made when needed; the others must be there."""
    later = str(tmp_path / "a" / "b")

    assert probes.look_at_disk("state_dir", later).free_bytes > 0
    assert probes.look_at_disk("shared_dir", later).error == "No such file or directory"


def test_name_that_no_host_can_have_has_no_addresses() -> None:
    """It is unknown like any other."""
    assert probes.look_up("x" * 300, "[dbserver] host").addresses == ()


def test_address_is_its_own_address() -> None:
    """No name server is asked."""
    assert probes.look_up("127.0.0.1", "").addresses == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("mode", "key", "is_open"),
    [
        (0o600, "a-key", False),
        (0o640, "a-key", False),
        (0o644, "a-key", True),
        (0o602, "a-key", True),
        (0o644, "changeme", False),
        (0o644, "", False),
    ],
)
def test_key_file_that_others_can_read_or_change_is_found(
    mode: int, key: str, is_open: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its mode; a file without a key is nobody's concern."""
    monkeypatch.setattr(authkeys, "_is_reachable", lambda *_: True)
    path = tmp_path / "openquake.cfg"
    path.write_text(f"[dbserver]\nauthkey = {key}\n", encoding="utf-8")
    path.chmod(mode)

    found = key_files.too_wide([path, tmp_path / "missing.cfg"])

    assert found == ((f"{path} (mode {mode:04o})",) if is_open else ())


def test_doubts_about_the_key_are_told_by_its_own_checks_only(tmp_path: Path) -> None:
    """A guessable key is no second finding among the settings."""
    path = tmp_path / "openquake.cfg"
    path.write_text("[dbserver]\nauthkey = 1234567890123456\n", encoding="utf-8")
    settings = config.load_settings(tmp_path, {"OQ_CONFIG_FILE": str(path)})
    assert settings.warnings

    found = gathering.machine_facts(settings, 1)

    assert found.authkey.is_guessable
    assert found.settings_warnings == ()


def test_key_file_in_a_private_folder_is_closed(tmp_path: Path) -> None:
    """Nobody else gets to it."""
    path = tmp_path / "private" / "openquake.cfg"
    path.parent.mkdir(mode=0o700)
    path.write_text("[dbserver]\nauthkey = a-key\n", encoding="utf-8")
    path.chmod(0o644)

    assert key_files.too_wide([path]) == ()


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home/ann/state", "nfs4"), ("/home", "nfs4"), ("/homes", "ext4"), ("/mnt/my disk/x", "xfs")],
)
def test_file_system_of_a_path_is_that_of_its_nearest_mount(path: str, kind: str) -> None:
    """Later mounts hide earlier ones."""
    mounts = (
        "/dev/a / ext4 rw 0 0\n/dev/b /home ext4 rw 0 0\nm:/home /home nfs4 rw 0 0\n"
        "/dev/c /mnt/my\\040disk xfs rw 0 0\n"
    )

    assert probes.file_system(path, mounts) == kind


def test_file_system_without_mounts_is_not_known() -> None:
    """As in some containers."""
    assert probes.file_system("/x", "") == ""
