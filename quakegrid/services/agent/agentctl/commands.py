"""Commands of `agentctl` that change what the node does, and the one that shows the agent's log.

The commands ask the agent and wait until it has done what they ask. The module imports little besides click;
a command loads the client that it needs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.views import render
from quakegrid.nodes.template_state import TemplateKind
from quakegrid.services.agent.agentctl import token_join

if TYPE_CHECKING:
    from quakegrid.clients.agent import AgentClient, AgentStatus
    from quakegrid.clients.node_control import Joined, NodeControl
    from quakegrid.settings.config import Settings

POLL_S = 0.1
# A broker that can reach the node connects at once. One behind a firewall that drops packets takes longer.
WATCH_TIMEOUT_S = 15.0


def node_settings() -> Settings:
    """The settings of this node, with the port that its agent really has.

    Raises:
        SettingsError: there is no authkey and no certificate, so no agent can run here.
        CredentialError: the certificate has ended, or cannot be read.
    """
    from quakegrid.clients.agent import local_settings  # noqa: PLC0415 - `agentctl --help` needs no gRPC
    from quakegrid.settings import config  # noqa: PLC0415 - as above

    settings = config.load_node_settings(options.state_dir())
    if not settings.authkey and not settings.node_name:
        raise errors.SettingsError(
            "this node has no authkey and no certificate: `agentctl join --token TOKEN` gets one with a "
            "token that an admin makes. Or put [dbserver] host and authkey of the master into its "
            "openquake.cfg"
        )
    return local_settings(settings)


@contextmanager
def _node() -> Iterator[tuple[NodeControl, AgentClient]]:
    from quakegrid.clients.agent import AgentClient, local_host  # noqa: PLC0415 - `agentctl --help` needs no gRPC
    from quakegrid.clients.node_control import NodeControl  # noqa: PLC0415

    settings = node_settings()
    host = local_host(settings)
    with closing(NodeControl(settings, host)) as control, closing(AgentClient(settings, host)) as agent:
        yield control, agent


def _core_count(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int:
    """A number of cores as the agent takes it: -1 for all, 0 for as many as before."""
    if value in ("all", "-1"):  # the latter is upstream's word
        return -1
    try:
        count = int(value or 0)
    except ValueError:
        count = -1
    if count < 0 or value == "0":
        raise click.BadParameter(
            f"{value!r} is no number of cores; give 1 or more, or all; or `agentctl stop`"
        )
    return count


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("cores", metavar="[N|all]", callback=_core_count, required=False)
@options.state_dir_option
@options.output_option
def start(cores: int, output: str) -> None:
    """Serve N cores of this node, or all.

    The default is as many as before it was stopped. No workers wait for work: they are forked when a job
    needs them, in milliseconds, and end with it. Serving N cores means that at most N of them run. It stays
    so when the agent is started again.
    """
    with _node() as (control, agent):
        was_serving = control.start(cores)
        render.say("the node served already" if was_serving else "the node serves")
        _print(output, agent.status())


@click.command()
@click.option("--no-wait", is_flag=True, help="Do not wait until the workers have ended.")
@options.state_dir_option
@options.output_option
def stop(no_wait: bool, output: str) -> None:
    """Stop serving cores: workers end after their tasks.

    Nothing is lost: other nodes run the tasks that have not begun. Drivers on this node go on, also detached
    ones. The node stays stopped until `agentctl start`, also when the agent is started again.
    """
    with _node() as (control, agent):
        control.stop(is_forced=False)
        _finish(agent, output, is_waiting=not no_wait)


@click.command()
@options.state_dir_option
@options.output_option
def kill(output: str) -> None:
    """Stop serving cores, and kill every worker at once.

    Their tasks are run again on other nodes, or here after `agentctl start`. Drivers on this node go on.
    """
    with _node() as (control, agent):
        control.stop(is_forced=True)
        _finish(agent, output, is_waiting=True)


@click.command()
@click.option("--force", is_flag=True, help="Kill the workers instead of letting them end their tasks.")
@options.state_dir_option
@options.output_option
def restart(force: bool, output: str) -> None:
    """Let the workers end, load a new template, and serve again.

    A template that has drivers, also detached ones, is kept until they end, since they would end with it.
    """
    with _node() as (control, agent):
        driver_count = control.restart(is_forced=force)
        found = _wait_until_ended(agent)
        if driver_count:
            count = _driver_count(found) or driver_count
            render.say(
                f"the template restarts when its drivers ({count}) have ended; agentctl status shows them"
            )
        while found.service == "restarting" or found.template_state.kind is TemplateKind.LOADING:
            time.sleep(POLL_S)
            found = agent.status()
        _print(output, found)
        if found.template_state.kind is TemplateKind.FAILED:
            raise errors.StateError(f"the template of {found.node} {found.template_state}")


@click.command()
@click.argument("master", required=False)
@token_join.token_option(
    "Get a certificate for this node with the token that `quakegrid token create --node` has printed, in "
    "place of the authkey; - reads the token from stdin."
)
@click.option(
    "--name", default="", help="What the node is called (default: as the token says, else as the machine)."
)
@options.state_dir_option
@options.output_option
def join(master: str | None, token: str, name: str, output: str) -> None:
    """Join the fleet of a master that does not name this node.

    MASTER is a host, with `:port` if its broker is not on the usual one; the default is [broker] host of
    openquake.cfg. The authkey must be the same. The node stays in this fleet until `agentctl leave`, also
    when the agent or the master is started again.

    With --token no authkey and no openquake.cfg is needed, and no agent has to run: start it afterwards. The
    default of MASTER is the address in the token.
    """
    if token:
        token_join.certify(options.state_dir(), token, name=name, master=master or "")
        if not token_join.agent_runs(options.state_dir()):
            render.say("start the agent now: `agentctl serve`, or its unit")
            return
    elif name:
        raise click.UsageError("--name is for a node that joins with a token: give --token, too")
    with _node() as (control, agent):
        if token:
            joined = _join_with_new_certificate(control, node_settings().broker_address)
        else:
            joined = control.join(master or node_settings().broker_host)
        if joined.is_configured:
            render.say(f"host_cores of the master has this node already, as {joined.host}")
        end_s = time.monotonic() + WATCH_TIMEOUT_S
        while not (found := agent.status()).is_watched:
            if time.monotonic() > end_s:
                raise errors.PeerUnreachableError(
                    f"the master knows this node as {joined.host} and does not reach its agent there: open "
                    "[zworkers] ctrl_port in firewalls, or give [agent] listen the right address"
                )
            time.sleep(POLL_S)
        _print(output, found)


def _join_with_new_certificate(control: NodeControl, master: str) -> Joined:
    """Let an agent join that takes its new certificate within seconds; until then it shows the old one."""
    end_s = time.monotonic() + WATCH_TIMEOUT_S
    while True:
        try:
            return control.join(master)
        except (errors.CredentialError, errors.PeerUnreachableError):
            if time.monotonic() > end_s:
                raise
        time.sleep(POLL_S)


@click.command()
@click.option(
    "--force", is_flag=True, help="Forget the master without asking it, such as one that is no more."
)
@options.state_dir_option
@options.output_option
def leave(force: bool, output: str) -> None:
    """Leave the fleet when the workers have ended.

    Every worker ends after the task that it holds; then the master forgets the node. Ctrl-C ends this
    command, and the node still leaves. The agent goes on, and may join again.
    """
    with _node() as (control, agent):
        counts = CountTeller()
        master = control.leave(lambda: counts.tell(agent.status()), is_forced=force)
        render.say(f"the node has left {master}")
        _print(output, agent.status())


@click.command()
@click.option("--follow", is_flag=True, help="Go on showing new lines, until Ctrl-C.")
@click.option("--lines", "line_count", type=click.IntRange(0, 2000), default=100, show_default=True)
@options.state_dir_option
@options.output_option
def logs(follow: bool, line_count: int, output: str) -> None:
    """Show the last lines of the agent's own log.

    The agent keeps the last 2000 lines in memory, wherever its log goes. With --follow, json is one document
    a line.
    """
    with _node() as (control, _agent):
        lines = control.tail_log(line_count, follow=follow)
        if output == "json" and not follow:
            render.print_json(list(lines))
            return
        for line in lines:
            if output == "json":
                render.print_json_line(line)
            else:
                click.echo(line)


COMMANDS = (start, stop, kill, restart, join, leave, logs)


class CountTeller:
    """Prints how many workers still have to end, whenever that number changes."""

    def __init__(self) -> None:
        self._told: tuple[int, bool] | None = None

    def tell(self, found: AgentStatus) -> None:
        """Print the number if it has changed."""
        count = len(found.workers)
        told = count, found.is_watched
        if told == self._told or not count:
            return
        self._told = told
        workers = "1 worker has" if count == 1 else f"{count} workers have"
        render.say(f"waiting: {workers} to end, after the task at hand")
        if not found.is_watched:
            render.say("no broker is there that could tell them; `agentctl kill` ends them at once")


def _finish(agent: AgentClient, output: str, *, is_waiting: bool) -> None:
    found = _wait_until_ended(agent) if is_waiting else agent.status()
    if found.drivers:
        render.say(f"drivers that go on here: {_driver_count(found)}; agentctl status shows them")
    render.say("the node is stopped; `agentctl start` lets it serve again")
    _print(output, found)


def _driver_count(found: AgentStatus) -> str:
    """How many drivers there are, and how many of them are detached."""
    detached_count = sum(driver.is_detached for driver in found.drivers)
    detached = f", {detached_count} of them detached" if detached_count else ""
    return f"{len(found.drivers)}{detached}" if found.drivers else ""


def _wait_until_ended(agent: AgentClient) -> AgentStatus:
    counts = CountTeller()
    while (found := agent.status()).workers and found.service != "serving":
        counts.tell(found)
        time.sleep(POLL_S)
    return found


def _print(output: str, found: AgentStatus) -> None:
    record = {
        "node": found.node,
        "service": found.service,
        "cores": found.core_count,
        "workers": len(found.workers),
        "master": found.master,
        "template": str(found.template_state),
    }
    render.print_record(output, record)
