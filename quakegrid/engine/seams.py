"""The attributes of the engine that QuakeGrid replaces: three tables, in the order in which they are applied.

`OF_TASKS` and `OF_COMMANDS` are installed in the template (`preload`), `OF_ONE_DRIVER` in each driver. A
module of the engine is imported when its line has its turn, so that it finds what stands above in place.
What stands in for an attribute asks `this_process` whether it is in a driver or a worker.
"""

from __future__ import annotations

import getpass
import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from openquake.commonlib import logs

from quakegrid.engine import attributes, this_process, versions
from quakegrid.engine.driver import calculations, commands, exports
from quakegrid.engine.replay import hooks
from quakegrid.engine.tasks.cluster_master import ClusterMaster
from quakegrid.engine.tasks.shared_arrays import SharedArray


class Seam(NamedTuple):
    """One attribute of a module of the engine.

    `make` takes what the engine has there and returns what stands there from now on. It may be the same
    object, changed: other modules hold it, too. Engines that are older than an attribute do without it.
    """

    module: str
    attribute: str
    make: Callable[[Any], Any]
    is_everywhere: bool = True


def _instead(new: Any) -> Callable[[Any], Any]:
    return lambda _original: new


def _command(command: Callable[..., None]) -> Callable[[Any], Any]:
    return lambda original: commands.with_help_of(original, command)


def _do_nothing(*_args: object, **_options: object) -> None:
    """Stands in for functions whose work the cluster does by itself."""


# --- functions that stand in for attributes of `parallel`, `workerpool`, `logs` and `datastore`


def _submit(starmap: Any, func: Any, args: Any, monitor: Any) -> None:
    this_process.current().submit(starmap, func, args, monitor)


def _open_socket(end_point: str, socket_type: int, mode: str, timeout: int = 60) -> Any:
    return this_process.current().open_socket(end_point, socket_type, mode, timeout)


def _dbcmd(action: str, *args: Any) -> Any:
    for arg in args:
        if type(arg) not in versions.SIMPLE_TYPES:
            raise TypeError(f"{arg} is not a simple type")  # upstream's own words
    if action.startswith("workers_"):
        return getattr(this_process.current().worker_master(), action[8:])()
    if (answer := versions.answer_here(action)) is not None:
        return answer
    return this_process.current().dbcmd(versions.RENAMED.get(action, action), *args)


def _worker_master(zworkers: Any = None, receiver_ports: Any = None) -> Any:  # noqa: ARG001
    """A job gives its number, to control its own workers; `oq workers` gives a section, to control all."""
    if isinstance(zworkers, dict):
        return ClusterMaster(this_process.settings())
    return this_process.current().worker_master()


def _with_lane(distributors: dict[str, Callable[..., None]]) -> dict[str, Callable[..., None]]:
    """Upstream's ways to submit a task: `zmq` by the lane, `processpool` with results over a local socket.

    Upstream runs a few operations in a pool of its own, whatever is configured.
    """
    to_pool = distributors["processpool"]

    def submit_to_pool(starmap: Any, func: Any, args: Any, monitor: Any) -> None:
        monitor.backurl = starmap.socket.open_locally()
        to_pool(starmap, func, args, monitor)

    distributors["zmq"] = _submit
    distributors["processpool"] = submit_to_pool
    return distributors


def _emptied(hosts: list[str]) -> list[str]:
    hosts.clear()
    return hosts


# --- the tables

# Tasks, results and the database, for drivers and workers.
OF_TASKS = (
    Seam("openquake.baselib.parallel", "submit", _with_lane),
    Seam("openquake.baselib.parallel", "Socket", _instead(_open_socket)),
    # What tasks of conditioned ground motion fields share travels as blobs, so that they run on any node.
    Seam("openquake.baselib.parallel", "SharedArray", _instead(SharedArray)),
    Seam("openquake.baselib.parallel", "multispawn", _instead(versions.run_in_turn)),
    # Without hosts nothing asks for the memory of nodes, on ports where nobody listens.
    Seam("openquake.baselib.parallel", "host_cores", _emptied),
    Seam("openquake.baselib.workerpool", "WorkerMaster", _instead(_worker_master)),
    Seam("openquake.commonlib.logs", "dbcmd", _instead(_dbcmd)),
    Seam("openquake.commonlib.datastore", "dbcmd", _instead(_dbcmd)),
)
# The engine's own master side and its command line, for drivers.
OF_COMMANDS = (
    Seam("openquake.commonlib.dbapi", "db", _instead(commands.ServedDatabase())),
    # Files of exports are whole or not there.
    Seam("openquake.calculators.export", "export", exports.take_over),
    # The broker's admission is the queue.
    Seam("openquake.engine.engine", "poll_queue", _instead(_do_nothing)),
    Seam("openquake.engine.engine", "run_jobs", calculations.run_jobs_in_session),
    # A cluster asks nobody on the internet for newer versions.
    Seam("openquake.engine.engine", "check_obsolete_version", calculations.tell_version),
    # People who send an address reach no host of the master's network through it.
    Seam("openquake.engine.engine", "notify_job_complete", calculations.tell_outside, False),
    Seam("openquake.engine.engine", "run_calc", hooks.run_with_journal),
    Seam("openquake.engine.engine", "set_concurrent_tasks_default", hooks.begin_journal),
    Seam("openquake.engine.engine", "manage_signals", calculations.insist_on_signals),
    Seam("openquake.calculators.base", "HazardCalculator", calculations.tell_of_inputs),
    # Workers of a risk calculation do not wait until the ruptures are exported.
    Seam("openquake.calculators.base", "HazardCalculator", calculations.put_off_ruptures),
    Seam("openquake.server.dbserver", "ensure_on", _instead(_do_nothing)),
    Seam("openquake.server.dbserver", "check_foreign", _instead(_do_nothing)),
    # `openquake.commands.engine`, which is loaded later, imports the first of them by name.
    Seam("openquake.commands.abort", "main", _command(commands.abort)),
    Seam("openquake.commands.reset", "main", _command(commands.reset)),
    Seam("openquake.commands.dump", "smart_save", _instead(commands.save_backup)),
    # Negative ids mean one's own calculations: `oq purge -1`, `oq run --hc -1`.
    Seam("openquake.commonlib.logs", "get_calc_ids", _instead(commands.own_calc_ids)),
)
# Values that the engine has read when it was imported, in the template.
OF_ONE_DRIVER = (
    Seam("openquake.commands.purge", "datadir", lambda _: logs.get_datadir()),
    Seam("openquake.engine.engine", "_PID", lambda _: os.getpid()),
    # Whose calculation its log names; the template asked before there was a person.
    Seam("openquake.engine.engine", "USER", lambda _: getpass.getuser()),
    # A SIGHUP that reaches a driver means that the terminal is gone.
    Seam("openquake.engine.engine", "_PPID", _instead(-1)),
)


def install(table: Sequence[Seam]) -> None:
    """Replace the attributes of a table, in its order.

    Raises:
        EngineMissingError: the engine does not have one of them.
    """
    for module_name, attribute, make, is_everywhere in table:
        module = importlib.import_module(module_name)
        if not is_everywhere and not hasattr(module, attribute):
            continue
        attributes.replace(module, attribute, make(attributes.read(module, attribute)))
