"""Options that many commands share, and the settings that they choose.

Imports click only at its start: the settings' reader is loaded when a command wants it.
"""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from quakegrid.settings.config import Settings

    NumberType = click.ParamType[int]
else:
    NumberType = click.ParamType  # generic from click 8.4 on only

_CLUSTER = "quakegrid.cluster"
_LONGEST_SCRIPT = 1000
F = TypeVar("F", bound=Callable[..., Any])

# Job ids may be negative, as upstream's "nth last": `-1` must not be taken for an option.
NEGATIVE_IDS = {"ignore_unknown_options": True}


class JobNumber(NumberType):
    """A job's id, or a negative number that counts from the end; as large as the database can hold."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value} is no job id: give its number, or -1 for your last job", param, ctx)
        if not 0 < abs(number) < 2**63:
            self.fail(f"no job has the id {value}; ids start at 1, and -1 is your last job", param, ctx)
        return number


JOB_ID = JobNumber()


def _remember_state_dir(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.find_root().obj = value.expanduser().absolute()


_STATE_DIR = click.Option(
    ["--state-dir"],
    type=click.Path(path_type=Path, file_okay=False),
    expose_value=False,
    hidden=True,
    callback=_remember_state_dir,
)


def state_dir_option(command: F) -> F:
    """Add `--state-dir`, which `settings` then reads."""
    option = click.option(
        "--state-dir",
        type=click.Path(path_type=Path, file_okay=False),
        expose_value=False,
        callback=_remember_state_dir,
        help="Folder of this machine's cluster (default: $QUAKEGRID_STATE_DIR, else "
        "$XDG_STATE_HOME/quakegrid).",
    )
    return option(command)


def output_option(command: F) -> F:
    """Add `--output`, passed to the command as `output`, and `--json`, short for `--output json`."""
    return _output(command, ["table", "json", "quiet"], "; quiet: the first column only")


def plain_output_option(command: F) -> F:
    """As `output_option`, for what is no list: without `quiet`."""
    return _output(command, ["table", "json"], "")


def _output(command: F, kinds: Sequence[str], more: str) -> F:
    @functools.wraps(command)
    def with_output(*args: Any, output: str, is_json: bool, **wanted: Any) -> Any:
        return command(*args, output="json" if is_json else output, **wanted)

    option = click.option(
        "--output",
        type=click.Choice(kinds),
        default="table",
        show_default=True,
        help=f"json: complete and stable, for scripts{more}.",
    )
    short = click.option("--json", "is_json", is_flag=True, help="The same as --output json.")
    return short(option(with_output))  # type: ignore[return-value]


def take_everywhere(command: click.Command) -> None:
    """Let a command and those below it take the options of the program, wherever they stand."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            take_everywhere(each)
    elif command.add_help_option:  # not one that passes all its arguments on
        known = {name for param in command.params for name in param.opts}
        for option in (_STATE_DIR, _CLUSTER_NAME):
            if option.opts[0] not in known:
                command.params.append(option)


def state_dir() -> Path | None:
    """The folder that the user named on this command line; None for the default."""
    value = click.get_current_context().find_root().obj
    return value if isinstance(value, Path) else None


def _remember_cluster(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value:
        ctx.find_root().meta[_CLUSTER] = value


_CLUSTER_NAME = click.Option(["--cluster"], expose_value=False, hidden=True, callback=_remember_cluster)


def cluster_option(command: F) -> F:
    """Add `--cluster`, which `client_settings` then reads."""
    option = click.option(
        "--cluster",
        metavar="NAME",
        expose_value=False,
        callback=_remember_cluster,
        help="Cluster that you have logged in to with `quakegrid login` (default: $QUAKEGRID_CLUSTER).",
    )
    return option(command)


def cluster() -> str:
    """The cluster that the user named on this command line; empty if none."""
    return str(click.get_current_context().find_root().meta.get(_CLUSTER, ""))


def program() -> str:
    """How to call us again: as it was done now, where the shell would not find us by name."""
    called = Path(sys.argv[0])
    found = shutil.which("quakegrid")
    is_found = found is not None and called.exists() and _leads(Path(found), called)
    name = (
        "quakegrid"
        if is_found or called.name != "quakegrid"
        else str(called if not called.is_relative_to(Path.cwd()) else called.relative_to(Path.cwd()))
    )
    chosen = state_dir()
    words = [name]
    words += [] if chosen is None else ["--state-dir", str(chosen)]
    words += ["--cluster", cluster()] if cluster() else []
    return " ".join(words)


def _leads(found: Path, called: Path) -> bool:
    """Whether a command is a program, or the short script by which an installation calls it."""
    if found.samefile(called):
        return True
    with found.open("rb") as file:
        return f"exec {called} ".encode() in file.read(_LONGEST_SCRIPT)


def settings() -> Settings:
    """Read the settings for this command line."""
    from quakegrid.settings import config  # noqa: PLC0415 - `quakegrid --help` needs no settings

    return config.load_settings(state_dir())


def client_settings() -> Settings:
    """Read the settings for a command that asks services: of the cluster that is named, or of this machine.

    Raises:
        CredentialError: there is no credential for the cluster, or it has ended.
        SettingsError: the settings of this machine cannot be read.
    """
    from quakegrid.settings import config  # noqa: PLC0415 - `quakegrid --help` needs no settings

    return config.client_settings(cluster(), state_dir())


def machine_settings() -> Settings:
    """Read the settings for a command that asks the agent of this machine for a driver.

    A person who may not read the authkey asks by the agent's socket alone, even with a credential. If the
    command line names a cluster, that one is meant.

    Raises:
        As `cluster_settings`.
    """
    from quakegrid import errors  # noqa: PLC0415 - as above
    from quakegrid.clients import agent_sockets  # noqa: PLC0415 - as above
    from quakegrid.settings import config, credential_files  # noqa: PLC0415 - as above

    if credential_files.chosen(cluster()) is None:
        try:
            has_key = bool(settings().authkey)
        except errors.SettingsError:
            has_key = False
        found = None if has_key else config.settings_of_machine(state_dir())
        if found is not None and agent_sockets.is_there(found.state_dir):
            return found
    return cluster_settings()


def cluster_settings() -> Settings:
    """Read the settings for a command that talks to services.

    Raises:
        PeerUnreachableError: the cluster is this machine's own and is not running.
        CredentialError: there is no credential for the cluster, or it has ended.
    """
    from quakegrid import errors  # noqa: PLC0415 - as above
    from quakegrid.machine import service_files  # noqa: PLC0415 - as above
    from quakegrid.settings import installation  # noqa: PLC0415 - as above

    found = client_settings()
    if found.credential is not None:
        return found
    is_down = found.is_embedded and not any(
        service_files.read(found, name) for name in service_files.SERVICES
    )
    if is_down or not found.authkey:
        raise errors.PeerUnreachableError(
            f"no cluster is running here (state in {found.state_dir}); "
            f"{installation.start_words(found.dbserver_host)} starts it"
        )
    return found
