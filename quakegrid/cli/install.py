"""Commands `install` and `uninstall`: QuakeGrid as services of a machine.

Says what will be done, asks, does it; `quakegrid.install` has the steps.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quakegrid import errors
from quakegrid.cli.views.render import say
from quakegrid.settings import authkeys

if TYPE_CHECKING:
    from quakegrid.install.machine import Machine
    from quakegrid.install.plan import Choice
    from quakegrid.install.steps import Step

ROOT = Path("/")
BROKER_PORT = 1911
# There where systemd runs the machine.
SYSTEMD = Path("/run/systemd/system")
LONGEST_INPUT = 10_000
# Any address of another machine will do: nothing is sent.
_FAR_AWAY = ("192.0.2.1", 9)
_root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT,
    help="Work below this folder in place of /, and run no command: to try it, or to make an image.",
)
_dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
_yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


@click.command()
@click.option(
    "--role",
    type=click.Choice(["master", "node"]),
    required=True,
    help="master: dbserver, broker and an agent; node: an agent that joins the master.",
)
@click.option(
    "--master",
    metavar="HOST",
    default="",
    help="The master, as nodes reach it (default: on the master its own address, on a node what "
    "openquake.cfg says).",
)
@click.option(
    "--token",
    default="",
    metavar="TOKEN",
    envvar="QUAKEGRID_TOKEN",
    help="For a node: join with what `quakegrid token create --node` has printed on the master, in place of "
    "the cluster's key; - reads it from stdin.",
)
@click.option(
    "--prefix",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/opt/quakegrid"),
    show_default=True,
    help="Folder with what nodes share: shared_dir is below it.",
)
@click.option("--user", default="quakegrid", show_default=True, help="Whom the services run as.")
@click.option(
    "--export", "network", metavar="NETWORK", default="", help="Export the prefix to a network over NFS."
)
@click.option(
    "--member",
    "members",
    multiple=True,
    metavar="NAME",
    help="Somebody who may start calculations here (default: who gives this command by sudo).",
)
@_root_option
@_dry_run_option
@_yes_option
def install(*, root: Path, dry_run: bool, yes: bool, **wanted: Any) -> None:
    """Install services, settings and accounts on this machine.

    Looks first whether it can succeed, says what it will do, asks, does it, and waits until all services
    answer. Repeated, it does what is missing, also of an installation by an older QuakeGrid; services that
    run are not restarted. People who are put into the group quakegrid-users start calculations, which run as
    their own accounts. Needs root.

    Example: `quakegrid install --role node --master 10.0.0.1`

    Ends with exit code 1 if a service does not answer, or the master does not know the node.
    """
    from quakegrid.install import accounts, environments, plan  # noqa: PLC0415 - as above
    from quakegrid.install import steps as kinds  # noqa: PLC0415 - as above
    from quakegrid.install.machine import Machine, owner_ids  # noqa: PLC0415 - as above

    if sys.prefix == sys.base_prefix:
        raise errors.UsageError(
            "QuakeGrid is in the system's Python; install it into a virtual environment first"
        )
    machine = Machine(root.absolute())
    _check_root(root, dry_run=dry_run)
    if machine.is_real and not dry_run:
        environments.check(environments.look(Path(sys.prefix)))
    choice, text = _choice(machine, **wanted)
    is_node = choice.role is plan.Role.NODE
    ids = owner_ids(machine, choice.prefix / "shared") if is_node else plan.NO_IDS
    wanted_steps = plan.steps(choice, text, authkeys.new_authkey(), ids)
    warnings = []
    if machine.is_real:
        accounts.refuse_halves(wanted_steps)
        warnings = _check_first(choice, text, wanted_steps, dry_run=dry_run)
    steps = machine.pending(wanted_steps)
    role = choice.role.value
    if not steps:
        say(f"Nothing to do: this machine is a {role} already.")
        return
    say(f"To make this machine a {role}{'' if root == ROOT else f', below {root}'}:")
    for line in (*(f"  {kinds.in_words(step)}" for step in steps), *warnings):
        say(line)
    if dry_run:
        return
    _confirm(yes=yes)
    is_upgrade = bool(machine.read_notes().files)
    machine.apply(steps, lambda _: None)
    if machine.is_real:
        _verify(wanted_steps, is_node=is_node)
    next_words = _upgrade_words() if is_upgrade else _next_words(choice, _people_group(wanted_steps))
    say(f"This machine is a {role}. {next_words}")


def _check_first(choice: Choice, text: str | None, steps: Sequence[Step], *, dry_run: bool) -> list[str]:
    """Refuse what could not succeed, before anything is changed; a dry run only says so.

    Returns:
        Warnings, which are to be said with the plan.
    """
    from quakegrid.install import prospects  # noqa: PLC0415 - as above

    try:
        prospects.check_programs(steps)
        master, port = _broker_of(choice, text or "")
        if choice.role.value == "master" or master:
            warning = prospects.check_master(choice.role, master, port)
            return [f"warning: {warning}"] if warning else []
    except errors.UsageError as exc:
        if not dry_run:
            raise
        say(f"It would be refused: {exc}")
    return []


def _verify(steps: Sequence[Step], *, is_node: bool) -> None:
    """Wait until the services answer.

    Raises:
        StateError: they do not; with the reasons.
    """
    from quakegrid.cli.checks import installed  # noqa: PLC0415 - as above
    from quakegrid.install import first_start, plan  # noqa: PLC0415 - as above
    from quakegrid.install.steps import WriteFile  # noqa: PLC0415 - as above

    if not is_node:
        first_start.wait_for_dbserver(plan.STATE_DIR)
    if not SYSTEMD.is_dir():
        return
    units = [
        step.path.stem.removeprefix("quakegrid-")
        for step in steps
        if isinstance(step, WriteFile) and step.path.suffix == ".service"
    ]
    say("Waiting until the services answer ...")
    found = installed.troubles(units, plan.STATE_DIR, is_node=is_node)
    if found:
        lines = "".join(f"\n  {line}" for line in found)
        raise errors.StateError(f"all is installed, but not all works:{lines}")


def _choice(
    machine: Machine, *, role: str, master: str, members: tuple[str, ...], token: str, **wanted: Any
) -> tuple[Choice, str | None]:
    """The administrator's choice, and the text of `openquake.cfg`, None if it cannot be read."""
    from quakegrid.install import plan  # noqa: PLC0415 - as above
    from quakegrid.settings import config  # noqa: PLC0415 - `quakegrid --help` needs no settings

    the_role = plan.Role(role)
    site = config.config_paths(plan.STATE_DIR, {})[1]
    text = machine.read_config(site)
    if the_role is plan.Role.MASTER:
        if text is None:
            raise errors.SettingsError(f"{site} cannot be read; run this as root")
        master = master or _named_master(text) or _own_address()
    caller = os.environ.get("SUDO_USER", "")
    members = members or ((caller,) if caller not in {"", plan.ROOT_USER} else ())
    choice = plan.Choice(
        the_role,
        master,
        venv=Path(sys.prefix),
        config=site,
        members=members,
        token=sys.stdin.read(LONGEST_INPUT).strip() if token == "-" else token,  # noqa: S105  a dash
        is_certified=the_role is plan.Role.NODE and machine.has_certificate(),
        **wanted,
    )
    return choice, text


@click.command()
@_root_option
@_dry_run_option
@_yes_option
def uninstall(root: Path, dry_run: bool, yes: bool) -> None:
    """Remove what `quakegrid install` made on this machine.

    Results, databases and logs stay, and so does every file that was changed since. Needs root.
    """
    from quakegrid.install import removal  # noqa: PLC0415 - as above
    from quakegrid.install.machine import Machine  # noqa: PLC0415 - as above

    machine = Machine(root.absolute())
    _check_root(root, dry_run=dry_run)
    removed, kept = removal.in_words(machine)
    if not removed:
        say("Nothing to do: `quakegrid install` has made nothing here.")
        return
    say("To remove QuakeGrid's services from this machine:")
    for line in (*removed, *(f"keep {reason}" for reason in kept)):
        say(f"  {line}")
    if dry_run:
        return
    _confirm(yes=yes)
    removal.remove(machine, say)
    say("Removed. The environment that QuakeGrid is installed in, and all data, are still there.")


def _check_root(root: Path, *, dry_run: bool) -> None:
    if root == ROOT and os.geteuid() != 0 and not dry_run:
        raise errors.UsageError("this changes the machine: run it as root, or see it with --dry-run")


def _confirm(*, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise errors.UsageError("there is nobody to ask; say --yes")
    click.confirm("Do it?", abort=True, err=True)


def _named_master(text: str) -> str:
    import configparser  # noqa: PLC0415 - as above

    from quakegrid.install import config_text  # noqa: PLC0415 - as above

    try:
        return config_text.read_value(text, "dbserver", "host")
    except configparser.Error:
        return ""  # `plan` says what is wrong with it


def _named_port(text: str) -> int:
    """The broker's port, as the configuration says; the usual one if it says nothing."""
    import configparser  # noqa: PLC0415 - as above

    from quakegrid.install import config_text  # noqa: PLC0415 - as above

    try:
        return int(config_text.read_value(text, "broker", "port") or BROKER_PORT)
    except (configparser.Error, ValueError):
        return BROKER_PORT


def _broker_of(choice: Choice, text: str) -> tuple[str, int]:
    """The master and its broker's port: what was asked for, else the token's, else the configuration's."""
    if choice.token:
        host, port = token_broker(choice.token)
        return choice.master or host, port
    return choice.master or _named_master(text), _named_port(text)


def token_broker(token: str) -> tuple[str, int]:
    """Host and port of the broker of the cluster that a token is of.

    Raises:
        UsageError: the text is no token.
    """
    from quakegrid.access import node_tokens  # noqa: PLC0415 - as above
    from quakegrid.settings import credential_files  # noqa: PLC0415 - as above

    try:
        return credential_files.split_address(node_tokens.from_text(token).broker)
    except ValueError as exc:
        raise errors.UsageError(f"that is no token of `quakegrid token create --node`: {exc}") from None


def _own_address() -> str:
    """This machine's address on its way out, "" if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_FAR_AWAY)
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def _upgrade_words() -> str:
    return (
        "Services that run are still as they were:\n"
        "  systemctl restart quakegrid-dbserver quakegrid-broker    calculations go on\n"
        "  systemctl restart quakegrid-agent                        when none was started on this machine"
    )


def _people_group(steps: Sequence[Step]) -> str:
    from quakegrid.install.steps import MakeGroup  # noqa: PLC0415 - as above

    return next(step.name for step in steps if isinstance(step, MakeGroup))


def _next_words(choice: Choice, group: str) -> str:
    as_user = f"sudo -u {choice.user} quakegrid"
    people = f"Who is in the group {group} may start calculations here: `gpasswd --add NAME {group}`"
    if choice.role.value == "node":
        return f"On the master, `{as_user} status` shows it within seconds.\n{people}"
    return (
        "A node needs the environment at the same place, and what this prints (N: how many nodes):\n"
        f"  {as_user} token create --node --uses N\n"
        f"There: `quakegrid install --role node --token TOKEN`. To check: `{as_user} doctor`\n"
        f"{people}"
    )
