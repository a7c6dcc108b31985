"""A bug in the broker costs no calculation: it ends like one that was killed, and the next one goes on."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from quakegrid import Cluster, testing
from quakegrid.settings import config
from tests.support.calls import sdk_calls
from tests.support.nodes import NodeService, wait_until

# The real broker, whose next task raises when a signal comes.
BREAKABLE = """
import asyncio, signal, sys
from quakegrid.services.broker import __main__ as process
from quakegrid.services.broker.broker import Broker

start = Broker.start

def start_and_listen(self):
    async def fail():
        raise RuntimeError("a bug")
    start(self)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: self._tasks.spawn(fail()))

Broker.start = start_and_listen
sys.exit(process.main())
"""


class BreakableBroker(NodeService):
    """A broker that fails on demand."""

    @property
    def command(self) -> list[str]:
        """What starts it."""
        return [sys.executable, "-c", BREAKABLE, "--state-dir", str(self.settings.state_dir)]


def test_tasks_go_on_after_the_broker_failed(tmp_path: Path) -> None:
    """Those that ran when it failed give their results to the next one."""
    (tmp_path / "home").mkdir()
    extra: dict[str, dict[str, str | int]] = {
        "agent": {"preload": "none"},
        "zworkers": {"host_cores": f"{config.LOOPBACK} 2"},
    }
    path = testing.write_cluster_config(tmp_path / "state", extra)
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    go = tmp_path / "go"
    broken = BreakableBroker(settings, "broker")
    services = [NodeService(settings, "dbserver"), broken, NodeService(settings, "agent")]
    with ExitStack() as stack:
        for service in services:
            stack.callback(service.close)
            service.start()
        executor = stack.enter_context(stack.enter_context(Cluster(settings.state_dir)).executor())
        futures = [executor.submit(sdk_calls.wait_for, str(go)) for _ in range(6)]
        wait_until(lambda: any(future.running() for future in futures))

        exit_code = broken.stop(signal.SIGUSR1)
        following = NodeService(settings, "broker")
        stack.callback(following.close)
        following.start()
        go.touch()

        assert exit_code == 1
        assert "RuntimeError: a bug" in (settings.state_dir / "broker.log").read_text()
        assert {future.result() for future in futures} == {str(go)}
