"""Which workers make way when sessions leave nodes out: a core helps only on a node that fits.

Pure. Knows sessions, workers and free cores; the fleet core decides how many workers each session is to have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.broker.fleet.state import FleetSession, FleetWorker
from services.broker.fleet.widths import Lack


@dataclass(frozen=True, slots=True)
class Stake:
    """The workers of a session that stay, what it lacks, and how many workers it can spare."""

    session: FleetSession
    workers: Sequence[FleetWorker]
    lack: Lack
    spare_count: int


def choose(stakes: Sequence[Stake], rooms: Mapping[str, int]) -> list[FleetWorker]:
    """The workers to drain.

    Spare ones first; else one whose session finds a free core on another node, and moves there.

    Args:
        stakes: of all sessions that may have workers.
        rooms: free cores by host, those of workers that are being drained included.
    """
    left = Counter(rooms)
    chosen: list[FleetWorker] = []
    # Who leaves out most nodes chooses first, here as when workers start.
    for stake in sorted(stakes, key=lambda stake: -stake.session.unfit_count):
        missing = stake.lack.core_count
        while missing > 0:
            host = _free_host(stake.session, left)
            if host:
                left[host] -= 1
                missing -= 1
                continue
            worker = _spare(stake.session, stakes, chosen) or _movable(stake.session, stakes, chosen, left)
            if worker is None:
                break
            chosen.append(worker)
            missing -= worker.core_count
    return chosen


def _free_host(session: FleetSession, left: Mapping[str, int]) -> str:
    return next((host for host, count in left.items() if count > 0 and session.fits_host(host)), "")


def _spare(
    session: FleetSession, stakes: Sequence[Stake], chosen: Sequence[FleetWorker]
) -> FleetWorker | None:
    """A worker on a node that fits, of who has most above its share."""

    def spare_count(stake: Stake) -> int:
        return stake.spare_count - sum(worker in chosen for worker in stake.workers)

    for stake in sorted(stakes, key=spare_count, reverse=True):
        worker = _useful(session, stake, chosen) if spare_count(stake) > 0 else None
        if worker:
            return worker
    return None


def _movable(
    session: FleetSession, stakes: Sequence[Stake], chosen: Sequence[FleetWorker], left: Counter[str]
) -> FleetWorker | None:
    """A worker on a node that fits whose session has a free core on one that does not."""
    for stake in stakes:
        host = _free_host(stake.session, left) if stake.session is not session else ""
        worker = _useful(session, stake, chosen) if host else None
        if worker:
            left[host] -= worker.core_count
            return worker
    return None


def _useful(session: FleetSession, stake: Stake, chosen: Sequence[FleetWorker]) -> FleetWorker | None:
    """A worker of a stake whose core the session could use, an idle one if there is one."""
    busy = stake.session.busy_worker_ids
    for worker in sorted(stake.workers, key=lambda worker: worker.worker_id in busy):
        if worker not in chosen and session.fits_host(worker.host):
            return worker
    return None
