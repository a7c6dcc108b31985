"""The agent process: one event loop for gRPC, the unix socket and the template's reports.

Exit codes: 0 stopped by a signal, 1 failed, 2 settings.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from quakegrid.transport import grpc_environment

grpc_environment.tell(os.environ)  # gRPC reads the environment when it is first imported

from quakegrid.clients import key_watch  # noqa: E402
from quakegrid.errors import QuakeGridError  # noqa: E402
from quakegrid.journals import files as journal_files  # noqa: E402
from quakegrid.machine import open_files, service_files, service_life, service_logs  # noqa: E402
from quakegrid.services.agent.linux import orphans, user_rights  # noqa: E402
from quakegrid.services.agent.linux.oom_scores import AGENT_SCORE, set_oom_score  # noqa: E402
from quakegrid.services.agent.node.agent import Agent  # noqa: E402
from quakegrid.services.agent.node.certificates import node_certificate, node_certifier  # noqa: E402
from quakegrid.services.agent.node.doors.command_lines import LocalSocket  # noqa: E402
from quakegrid.services.agent.node.doors.driver_runs import DriverRuns  # noqa: E402
from quakegrid.services.agent.node.doors.notifications import Notifications  # noqa: E402
from quakegrid.services.agent.node.doors.port import AgentServer  # noqa: E402
from quakegrid.services.agent.node.doors.preparation import Preparation  # noqa: E402
from quakegrid.services.agent.node.doors.socket_audit import SocketAudit  # noqa: E402
from quakegrid.services.agent.node.output.log_tail import LogTail  # noqa: E402
from quakegrid.services.agent.node.state_lock import StateLock, in_environment  # noqa: E402
from quakegrid.settings import config  # noqa: E402
from quakegrid.settings.config import LOOPBACK, Settings, agent_socket, check_authkey  # noqa: E402

log = logging.getLogger("quakegrid.agent")
STOP_GRACE_S = 1.0
# How long processes that were killed may take to be gone.
ORPHANS_TIMEOUT_S = 1.0
# How long the removal of temporary files may delay the end of the agent.
FOLDERS_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """How a node belongs to a fleet that does not name it.

    Args:
        master: host of the master; empty joins none.
        port: where the agent listens, 0 for any free port; None for `[zworkers] ctrl_port`.
        leave_s: how long the agent may take to leave the fleet when it is told to stop. With 0 it stops
            without leaving.
    """

    master: str = ""
    port: int | None = None
    leave_s: float = 0.0


async def serve(settings: Settings, lifeline_fd: int = -1, join: JoinOptions = JoinOptions()) -> int:
    """Serve until a signal comes, or until the process that holds the lifeline ends.

    Args:
        settings: of the cluster.
        lifeline_fd: reading end of the lifeline, -1 for none.
        join: which fleet the node joins, and how.
    Returns:
        The exit code.
    Raises:
        QuakeGridError: the port is taken, or the state directory is another agent's or cannot be used.
    """
    if join.port is not None:
        settings = replace(settings, agent_port=join.port)
    log_tail = _prepare_process(settings)
    instance_id = secrets.token_hex(8)
    lock = StateLock(settings.state_dir, instance_id)
    agent = Agent(settings, instance_id, lock.mark)
    stopped, hurried = asyncio.Event(), asyncio.Event()
    life = service_life.Life(stopped.set)
    life.guard(asyncio.get_running_loop())
    _end_on_signals(stopped, hurried, lifeline_fd)
    server = AgentServer(agent, log_tail, settings)
    _end_orphans(agent, lock)
    agent.membership.port = server.port
    if join.master:
        agent.membership.remember(agent.membership.address_of(join.master))
    local, runs = _local_doors(agent, server, settings)
    local.bind()
    agent.start_template()
    watching = life.keep(agent.watch_memory(), "memory watch")
    local.start()
    runs.notifications.take_up()
    runs.take_up()
    await server.start()
    life.keep(server.wait_until_closed(), "port")
    record = service_files.write(settings, "agent", f"{LOOPBACK}:{server.port}")
    joining = life.keep(agent.membership.run(), "membership")
    node_certificate.keep_valid(settings, life)
    await stopped.wait()
    life.end()
    joining.cancel()
    if join.leave_s and not life.has_failed:
        await agent.membership.start_leaving(join.leave_s, hurried)
    await server.refuse()
    runs.stop()
    await agent.stop()
    await agent.membership.finish_leaving()
    agent.end_watches()
    watching.cancel()
    orphans.end_all_adopted(ORPHANS_TIMEOUT_S, _own_mark(lock), agent.accounts.rights)
    agent.leftovers.clear_within(FOLDERS_TIMEOUT_S)
    local.stop()
    runs.notifications.stop()
    await server.stop(STOP_GRACE_S)
    lock.close()  # first: whoever waits for the end of the service file may start another agent
    record.unlink(missing_ok=True)
    return life.exit_code


def _local_doors(agent: Agent, server: AgentServer, settings: Settings) -> tuple[LocalSocket, DriverRuns]:
    """The unix socket for command lines, and what runs their calculations to the end."""
    preparation = Preparation(agent.accounts, node_certifier.certifier_of(settings))
    untold = settings.state_dir / "notifications"
    notifications = Notifications(agent.drivers, settings.notify, untold, preparation.again)
    path, audit = agent_socket(settings.state_dir), SocketAudit(server.auditor)
    runs = DriverRuns(agent.drivers, notifications, settings, preparation.again)
    local = LocalSocket(agent.drivers, agent.accounts, path, preparation, runs, audit)
    return local, runs


def _prepare_process(settings: Settings) -> LogTail:
    """Check what the settings ask of this process, and set it up; returns what keeps the end of its log."""
    check_authkey(settings, "the agent")
    service_life.tell_doubts(settings.warnings)
    key_watch.follow(settings, "the agent")
    open_files.allow_many_files()  # every waiting command line holds some
    set_oom_score(AGENT_SCORE)
    if settings.node_name:  # for the templates
        os.environ[config.CLUSTER_AT] = f"{settings.dbserver_address} {settings.broker_address}"
    log_tail = LogTail()
    log_tail.setFormatter(logging.Formatter(service_logs.FORMAT))
    logging.getLogger().addHandler(log_tail)
    if user_rights.is_able():
        user_rights.hide_from_users()
        _share_journals(settings)
    if os.getuid() == 0:
        log.warning("runs_as_root jobs of root run as root on this node; give the agent a user of its own")
    return log_tail


def _share_journals(settings: Settings) -> None:
    """Let the drivers of people have journals. Without a folder for them calculations cannot be resumed."""
    try:
        journal_files.make_shared(settings.state_dir)
    except OSError as exc:
        log.warning("no_journals reason=%s", exc)


def _end_on_signals(stopped: asyncio.Event, hurried: asyncio.Event, lifeline_fd: int) -> None:
    """Set `stopped` at the first signal or when the lifeline closes, and `hurried` at the second signal."""
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        (hurried if stopped.is_set() else stopped).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if lifeline_fd >= 0:
        loop.add_reader(lifeline_fd, stopped.set)


def _end_orphans(agent: Agent, lock: StateLock) -> None:
    """Kill the processes that earlier agents left, and from now on those that a killed template leaves."""
    rights = agent.accounts.rights
    count = orphans.end_marked(in_environment(lock.family), ORPHANS_TIMEOUT_S, rights)
    if count:
        log.warning("orphans_ended count=%d", count)
    agent.leftovers.clear()
    orphans.adopt_orphans()
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGCHLD, orphans.end_adopted, _own_mark(lock), rights
    )


def _own_mark(lock: StateLock) -> bytes:
    """The mark of this agent's orphans; empty if all adopted processes are its own.

    Only process 1 of a container also becomes the parent of processes that others started.
    """
    return in_environment(lock.mark) if os.getpid() == 1 else b""


def run(state_dir: Path | None, lifeline_fd: int = -1, join: JoinOptions = JoinOptions()) -> int:
    """Serve with the settings of `state_dir`; returns the exit code."""
    service_logs.start()
    try:
        return asyncio.run(serve(config.load_node_settings(state_dir), lifeline_fd, join))
    except QuakeGridError as exc:
        print(f"agent: {exc}", file=sys.stderr)
        return exc.exit_code
    except OSError as exc:
        print(f"agent: {exc}; is the disk full, or the state directory not writable?", file=sys.stderr)
        return QuakeGridError.exit_code


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m quakegrid.services.agent", description="QuakeGrid's agent"
    )
    parser.add_argument("--state-dir", type=Path, help="state directory of the cluster")
    parser.add_argument("--lifeline-fd", type=int, default=-1, help="stop when this pipe closes")
    args = parser.parse_args()
    return run(args.state_dir, args.lifeline_fd)


if __name__ == "__main__":
    sys.exit(main())
