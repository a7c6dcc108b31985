"""Settings from `openquake.cfg`: order, defaults, refusals."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.settings.hosts import HostCores

Load = Callable[[str], Settings]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home and an environment without configuration."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "prefix").mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Read settings with this text in the file that `OQ_CONFIG_FILE` names."""

    def go(text: str) -> Settings:
        path = tmp_path / "mine.cfg"
        path.write_text(text)
        return config.load_settings(tmp_path / "state", {"OQ_CONFIG_FILE": str(path)})

    return go


def test_defaults_are_a_cluster_on_loopback(tmp_path: Path) -> None:
    """Without any file everything is this machine, on the documented ports."""
    settings = config.load_settings(tmp_path / "state", {})

    assert settings.paths == ()
    assert settings.is_embedded
    assert settings.authkey == ""
    assert settings.dbserver_address == "127.0.0.1:1908"
    assert settings.broker_address == "127.0.0.1:1911"
    assert (settings.agent_port, settings.agent_listen) == (1909, "127.0.0.1")
    assert settings.lane_ports == tuple(range(1912, 1921))
    assert settings.agent_host_cores == (HostCores("127.0.0.1", -1),)
    assert (settings.serialize_jobs, settings.max_attempts) == (1, 3)


def test_later_files_win_key_by_key(tmp_path: Path) -> None:
    """State folder, environment prefix, home, OQ_CONFIG_FILE: upstream's order."""
    (tmp_path / "state").mkdir()
    texts = {
        tmp_path / "state" / "openquake.cfg": "[dbserver]\nport = 1\nhost = a\n[broker]\nport = 11\n",
        tmp_path / "prefix" / "openquake.cfg": "[dbserver]\nport = 2\nhost = b\n",
        tmp_path / "home" / "openquake.cfg": "[dbserver]\nport = 3\n",
        tmp_path / "mine.cfg": "[dbserver]\nlisten = c\n",
    }
    for path, text in texts.items():
        path.write_text(text)

    settings = config.load_settings(tmp_path / "state", {"OQ_CONFIG_FILE": str(tmp_path / "mine.cfg")})

    assert settings.paths == tuple(texts)
    assert (settings.dbserver_port, settings.dbserver_host, settings.dbserver_listen) == (3, "b", "c")
    assert settings.broker_port == 11


@pytest.mark.parametrize("weak", ["", "changeme"])
def test_weak_authkey_hides_no_real_one(tmp_path: Path, load: Load, weak: str) -> None:
    """Upstream's file ships `changeme`: the embedded cluster's key stays in force."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "openquake.cfg").write_text("[dbserver]\nauthkey = the-real-one-of-this-cluster\n")

    assert load(f"[dbserver]\nauthkey = {weak}\n").authkey == "the-real-one-of-this-cluster"


def test_nodes_are_read_with_their_cores(load: Load) -> None:
    """Upstream's list, -1 for all cores."""
    settings = load("[zworkers]\nhost_cores = 10.0.0.1 -1, 10.0.0.2 32\n")

    assert settings.agent_host_cores == (HostCores("10.0.0.1", -1), HostCores("10.0.0.2", 32))


def test_cluster_may_have_no_node_but_those_that_join(load: Load) -> None:
    """`none` is said, since an empty value means the default."""
    assert load("[zworkers]\nhost_cores = none\n").agent_host_cores == ()


def test_cluster_of_many_machines_listens_beyond_loopback(load: Load) -> None:
    """The broker is where the dbserver is, and agents listen for it."""
    settings = load("[dbserver]\nhost = 10.0.0.1\nlisten = 0.0.0.0\n")

    assert not settings.is_embedded
    assert (settings.broker_host, settings.broker_listen) == ("10.0.0.1", "0.0.0.0")
    assert settings.agent_listen == "0.0.0.0"


@pytest.mark.parametrize(("text", "limit"), [("4G", 4 << 30), ("512m", 512 << 20), ("1000", 1000), ("0", 0)])
def test_memory_has_units(load: Load, text: str, limit: int) -> None:
    """Bytes, or K, M, G, T."""
    assert load(f"[agent]\nworker_memory = {text}\n").agent_memory_bytes == limit


def test_logs_are_kept_unless_told_otherwise(load: Load) -> None:
    """Days and megabytes; the default is for ever."""
    forever = load("")
    settings = load("[dbserver]\nlog_retention_days = 90\nlog_retention_mb = 2000\n")

    assert (forever.log_retention_days, forever.log_retention_bytes) == (0, 0)
    assert (settings.log_retention_days, settings.log_retention_bytes) == (90, 2000 << 20)


def test_metrics_have_no_port_unless_told(load: Load) -> None:
    """Nobody serves without a key by default."""
    assert load("").broker_metrics_port == 0
    assert load("[broker]\nmetrics_port = 0\n").broker_metrics_port == 0
    assert load("[broker]\nmetrics_port = 9102\n").broker_metrics_port == 9102


@pytest.mark.parametrize(("text", "count"), [("true", 1), ("no", 0), ("4", 4), ("", 1)])
def test_serialize_jobs_is_a_flag_or_a_count(load: Load, text: str, count: int) -> None:
    """Upstream's files have both; an empty value is the default."""
    assert load(f"[distribution]\nserialize_jobs = {text}\n").serialize_jobs == count


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ("openquake",)),
        ("openquake", ("openquake",)),
        ("none", ()),
        ("openquake, a.b,c, c", ("openquake", "a.b", "c")),
    ],
)
def test_preload_names_modules(load: Load, text: str, names: tuple[str, ...]) -> None:
    """The engine by its package's name; `none` stands alone."""
    assert load(f"[agent]\npreload = {text}\n").preload == names


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("dbserver", "port", "zero"),
        ("dbserver", "port", "70000"),
        ("dbserver", "receiver_ports", "1920-1912"),
        ("zworkers", "host_cores", "10.0.0.1"),
        ("zworkers", "host_cores", "10.0.0.1 0"),
        ("zworkers", "host_cores", "10.0.0.1 -2"),
        ("agent", "worker_memory", "-4G"),
        ("agent", "preload", "numpy, none"),
        ("agent", "preload", "num-py"),
        ("agent", "preload", "numpy,"),
        ("distribution", "serialize_jobs", "-1"),
        ("broker", "max_attempts", "0"),
        ("broker", "metrics_port", "-1"),
        ("broker", "metrics_port", "70000"),
        ("broker", "node_timeout", "0"),
        ("broker", "node_timeout", "nan"),
        ("broker", "placement", "scatter"),
        ("broker", "max_jobs_per_user", "-1"),
        ("broker", "max_cores_per_user", "half"),
        ("dbserver", "log_retention_days", "-1"),
        ("dbserver", "log_retention_days", "ten"),
        ("dbserver", "log_retention_days", "40000"),
        ("dbserver", "log_retention_mb", "5"),
        ("dbserver", "log_retention_mb", "1.5"),
    ],
)
def test_wrong_value_names_file_section_key_and_value(load: Load, section: str, key: str, value: str) -> None:
    """One line tells all that is needed to mend it."""
    with pytest.raises(errors.SettingsError) as caught:
        load(f"[{section}]\n{key} = {value}\n")

    text = str(caught.value)
    assert "mine.cfg" in text
    assert f"[{section}] {key} = {value!r}" in text
    assert "give " in text


@pytest.mark.parametrize("text", ["no section\n", "[a]\nx = 1\nx = 2\n", "[a]\n[a]\n"])
def test_broken_file_is_named_in_one_line(load: Load, text: str) -> None:
    """A file that is no configuration is refused by name."""
    with pytest.raises(errors.SettingsError, match=r"mine\.cfg") as caught:
        load(text)

    assert "\n" not in str(caught.value)


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    """A folder in place of the file cannot be read."""
    (tmp_path / "home" / "openquake.cfg").mkdir()

    with pytest.raises(errors.SettingsError, match="cannot read"):
        config.load_settings(tmp_path / "state", {})


def test_code_in_a_file_is_never_run(load: Load, tmp_path: Path) -> None:
    """Upstream executes a key named `code`; we read it as any other."""
    trap = tmp_path / "trap"

    load(f"[general]\ncode = open({str(trap)!r}, 'w')\n")

    assert not trap.exists()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"QUAKEGRID_STATE_DIR": "/a", "XDG_STATE_HOME": "/b"}, "/a"),
        ({"XDG_STATE_HOME": "/b"}, "/b/quakegrid"),
        ({}, "~/.local/state/quakegrid"),
    ],
)
def test_state_folder_follows_the_environment(environ: dict[str, str], expected: str) -> None:
    """Explicit, then XDG, then the home folder."""
    assert config.default_state_dir(environ) == Path(expected).expanduser()


def test_state_folder_whose_path_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """In one line that can be printed anywhere, whether a flag or the environment names the folder."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))

    for named, environ in ((folder, {}), (None, {"QUAKEGRID_STATE_DIR": str(folder)})):
        with pytest.raises(
            errors.SettingsError, match=r"state directory, .*caf\\xe9, is not UTF-8"
        ) as caught:
            config.load_settings(named, environ)
        assert str(caught.value).isascii()


def test_state_folder_with_letters_of_any_script_is_used(tmp_path: Path) -> None:
    """Only bytes that are no text are refused."""
    assert config.load_settings(tmp_path / "café 地震", {}).state_dir == tmp_path / "café 地震"


def test_named_config_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """Upstream goes on without it; a typo would start another cluster."""
    environ = {"OQ_CONFIG_FILE": str(tmp_path / "typo.cfg")}

    with pytest.raises(errors.SettingsError, match=r"typo\.cfg, which does not exist"):
        config.load_settings(tmp_path, environ)


def test_only_the_named_file_is_read_where_that_is_asked_for(tmp_path: Path) -> None:
    """A program's own cluster does not depend on files of its user, readable or not."""
    named = tmp_path / "own.cfg"
    named.write_text("[dbserver]\nport = 1999\n", encoding="utf-8")
    other = tmp_path / "state" / config.CONFIG_NAME
    other.mkdir(parents=True)  # cannot be read as a file, by root neither
    environ = {"OQ_CONFIG_FILE": str(named)}

    with pytest.raises(errors.SettingsError):
        config.load_settings(tmp_path / "state", environ)
    settings = config.load_settings(tmp_path / "state", environ | {config.ONLY_CONFIG: "1"})

    assert settings.dbserver_address.endswith(":1999")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.1.1", "::1"])
def test_cluster_on_loopback_listens_nowhere_else(load: Load, host: str) -> None:
    """However the loopback is written."""
    settings = load(f"[dbserver]\nhost = {host}\n")

    assert settings.is_embedded
    assert settings.agent_listen == "127.0.0.1"


@pytest.mark.parametrize(
    ("section", "key", "near"), [("broker", "max_attemps", "max_attempts"), ("agent", "nise", "nice")]
)
def test_misspelled_key_of_our_own_is_refused(load: Load, section: str, key: str, near: str) -> None:
    """It would have no effect, in silence."""
    with pytest.raises(errors.SettingsError, match=rf"mine.cfg: \[{section}\] has no key {key}; is {near}"):
        load(f"[{section}]\n{key} = 1\n")


def test_unknown_key_of_our_own_is_refused(load: Load) -> None:
    """Also one that resembles none."""
    with pytest.raises(errors.SettingsError, match=r"\[broker\] has no key colour; take it out"):
        load("[broker]\ncolour = red\n")


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[brokr]\nport = 1\n", "[brokr] has no effect here; is [broker] meant?"),
        (
            "[dbserver]\nreciever_ports = 1\n",
            "[dbserver] reciever_ports has no effect here; is receiver_ports meant?",
        ),
    ],
)
def test_names_that_are_nearly_ours_are_told(load: Load, text: str, warning: str) -> None:
    """They may be the engine's, so they are not refused."""
    assert load(text).warnings == (warning,)


def test_names_of_the_engine_are_not_told(load: Load) -> None:
    """Its own file has many."""
    text = (
        "[distribution]\noq_distribute = zmq\nnum_cores = 4\nsubmit_cmd = x\n[webapi]\nserver = x\n"
        "[dbserver]\nmulti_user = true\nreceiver_host = none\nlog = x\n[memory]\nlimit = 3\n"
    )

    assert load(text).warnings == ()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("htps://bot:Zt5hPw@chat.example.org/hooks/Zt5hPw", "htps://chat.example.org/…"),
        ("https://chat.example.org:99999/Zt5hPw", "https://chat.example.org:99999/…"),
        ("https://bot:Zt5hPw@", "https://"),
        ("https://bot:Zt5hPw", "…"),
        ("https://bot:Zt5/hPw@chat.example.org", "…"),
        ("https://bot:1/Zt5hPw@chat.example.org x", "https://…"),
        ("bot:Zt5hPw@chat.example.org", "…"),
        ("https://[Zt5hPw", "…"),
        ("Zt5hPw", "…"),
        ("https://chat.example.org/Zt5hPw\x01", "https://chat.example.org/…"),
        (f"https://chat.example.org/{'Zt5hPw' * 700}", "https://chat.example.org/…"),
    ],
)
def test_url_that_cannot_be_read_keeps_its_secrets(load: Load, url: str, shown: str) -> None:
    """The error goes to logs and terminals."""
    with pytest.raises(errors.SettingsError) as raised:
        load(f"[notify]\nurl = {url}\n")

    assert f"[notify] url = {shown} is not allowed; give a URL" in str(raised.value)
    assert "hPw" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("authkey = Zt5hPw\n", "line 1 stands before any [section]"),
        ("[dbserver]\nauthkey Zt5hPw\n[broker\n", "no `key = value` and no [section] in line 2, 3"),
        (
            "[dbserver]\nauthkey =\nZt5hPw==\nZt5hPw==\n",
            "[dbserver] has an option for the second time in line 4",
        ),
        ("[dbserver]\n[dbserver]\n", "[line 2]: section 'dbserver' already exists"),
    ],
)
def test_file_that_cannot_be_read_keeps_its_lines(load: Load, text: str, words: str) -> None:
    """Any of them may have the key."""
    with pytest.raises(errors.SettingsError) as raised:
        load(text)

    assert words in str(raised.value)
    assert "zt5hpw" not in "".join(traceback.format_exception(raised.value)).lower()


def test_database_needs_a_whole_path(load: Load) -> None:
    """A relative one would be another file in each working directory."""
    with pytest.raises(
        errors.SettingsError, match=r"\[dbserver\] file = 'db.sqlite3' is not allowed; give a whole"
    ):
        load("[dbserver]\nfile = db.sqlite3\n")
