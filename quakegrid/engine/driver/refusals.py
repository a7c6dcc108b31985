"""Commands of `oq` that would harm a cluster, and what is said instead of running them."""

from __future__ import annotations

from collections.abc import Sequence

REFUSED = {
    "webui": "the engine's own web server would not know the calculations of this cluster, and could mark "
    "those that run as failed. `quakegrid oq webui start` starts the web service of QuakeGrid instead, on a "
    "machine of one's own cluster",
    "dbserver": "the dbserver of this cluster is a service of QuakeGrid, which `oq dbserver` can neither "
    "start nor stop; `quakegrid status` shows how it is",
}
# What the engine itself refuses without saying what would help.
OF_CONTROLLERS = (
    "root has installed the engine here, and such an engine lets only the user openquake control workers. "
    "`quakegrid workers {verb}` does the same"
)
CONTROLS = frozenset({"start", "stop", "restart", "wait", "kill", "debug"})
HARMLESS = frozenset({"status", "-h", "--help"})
OF_EVERYBODY = (
    "this cluster is installed for all, who work as one user: `oq {name}` would delete everybody's "
    "calculations. `quakegrid jobs delete ID` deletes one"
)


def refusal(argv: Sequence[str], *, is_installed: bool, may_control: bool = True) -> str:
    """Why a command of `oq` is not run here; empty if it is.

    Args:
        argv: as after `oq`.
        is_installed: whether all people who use this machine's cluster are one user for it.
        may_control: whether the engine lets this user start and stop workers.
    """
    if not argv or HARMLESS & set(argv[1:]):
        return ""
    name, *rest = argv
    if is_installed and (name == "reset" or (name == "purge" and not _is_one_job(rest))):
        return OF_EVERYBODY.format(name=name)
    if name == "workers" and not may_control and CONTROLS.intersection(rest[:1]):
        return OF_CONTROLLERS.format(verb=rest[0])
    return REFUSED.get(name, "")


def _is_one_job(rest: Sequence[str]) -> bool:
    """Whether `oq purge` is told to delete one job by its id."""
    return any(word.isdecimal() for word in rest)
