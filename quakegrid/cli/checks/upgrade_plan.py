"""What an upgrade of this machine's QuakeGrid needs: which services run an older one, and the order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

# A service is restarted before those that need it.
ORDER = ("dbserver", "broker", "agent", "web")


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service of this machine.

    Args:
        name: of the service.
        version: that it runs.
        start_s: when it started, in seconds since 1970.
    """

    name: str
    version: str
    start_s: float


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node of the cluster: its version and its engine's; `trouble` says why they are not known."""

    host: str
    version: str = ""
    engine: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class UpgradePlan:
    """What to do.

    Args:
        version: that is installed here.
        engine: its version, "" without one.
        old_services: that do not run what is installed, in the order in which to restart them.
        old_nodes: with another QuakeGrid.
        other_engines: nodes with another engine.
        unknown_nodes: that do not answer, with the reason.
        is_busy: whether calculations run or wait.
    """

    version: str
    engine: str
    old_services: list[str] = field(default_factory=list)
    old_nodes: list[str] = field(default_factory=list)
    other_engines: list[str] = field(default_factory=list)
    unknown_nodes: list[str] = field(default_factory=list)
    is_busy: bool = False

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.old_services or self.old_nodes or self.other_engines)


def plan(
    installed: tuple[str, str, float],
    services: Sequence[RunningService],
    nodes: Sequence[RunningNode],
    *,
    is_busy: bool,
) -> UpgradePlan:
    """Compare what is installed with what runs.

    Args:
        installed: version of QuakeGrid here, of the engine, and when its code changed last.
        services: of this machine.
        nodes: of the cluster.
        is_busy: whether calculations run or wait.
    """
    version, engine, changed_s = installed
    old = {each.name for each in services if each.version != version or each.start_s < changed_s}
    known = [node for node in nodes if not node.trouble]
    return UpgradePlan(
        version,
        engine,
        old_services=[name for name in ORDER if name in old],
        old_nodes=[f"{node.host} ({node.version})" for node in known if node.version != version],
        other_engines=[
            f"{node.host} ({node.engine or 'none'})" for node in known if engine and node.engine != engine
        ],
        unknown_nodes=[f"{node.host}: {node.trouble}" for node in nodes if node.trouble],
        is_busy=is_busy,
    )


def in_words(found: UpgradePlan, *, is_installed: bool) -> list[str]:
    """Lines for people.

    Args:
        found: the plan.
        is_installed: whether systemd runs the services of this machine.
    """
    engine = f", openquake.engine {found.engine}" if found.engine else ", without an engine"
    lines = [f"installed here: QuakeGrid {found.version}{engine}"]
    if found.old_services:
        lines.append(f"services that run an older one: {', '.join(found.old_services)}")
        units = " ".join(f"quakegrid-{name}" for name in found.old_services)
        how = (
            f"as root, `systemctl restart {units}`"
            if is_installed
            else "`quakegrid down`, then `quakegrid up`"
        )
        lines.append(f"  to restart them: {how}")
        if found.is_busy:
            lines.append(
                "  calculations run or wait: they go on after restarts, and the agent's waits for none"
            )
    if found.old_nodes:
        lines.append(f"nodes with another QuakeGrid: {', '.join(found.old_nodes)}; upgrade all together")
    if found.other_engines:
        lines.append(
            f"nodes with another engine: {', '.join(found.other_engines)}; they are left out of calculations"
        )
    lines += [f"node not reached: {words}" for words in found.unknown_nodes]
    if found.is_done:
        what = "that was reached" if found.unknown_nodes else "that runs"
        lines.append(f"All {what} is what is installed here.")
    return lines
