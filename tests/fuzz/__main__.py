"""`make fuzz`: fuzzing by hand, as long as one likes; CONTRIBUTING.md says how to replay what it finds."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

from tests.fuzz.doors.every import DOORS, SCENES
from tests.fuzz.harness import Figures, Order, drive

# Of one door: more would be the same again.
MOST_FINDINGS = 5
LOG_BYTES = 3000


def read_order() -> tuple[list[str], Order]:
    """What the environment asks for: the doors, and what each gets."""
    environ = os.environ
    seed = int(environ.get("SEED") or time.time_ns() % 1_000_000)
    wanted = environ.get("DOOR", "").replace(",", " ").split() or list(DOORS)
    order = Order(
        seed,
        count=int(environ.get("INPUTS") or 100_000),
        first=int(environ.get("FIRST") or 0),
        longest_s=60 * float(environ.get("MINUTES") or 10),
        batch_count=int(environ.get("BATCH") or 0),
    )
    return wanted, order


def fuzz(name: str, order: Order) -> list[Figures]:
    """Try one door; where something broke, go on behind it with new services."""
    found: list[Figures] = []
    end_s, last = time.monotonic() + order.longest_s, order.first + order.count
    while order.count > 0 and order.longest_s > 0 and len(found) < MOST_FINDINGS:
        door = DOORS[name]()
        with SCENES[door.scene]() as scene:
            figures = drive(door, scene, order)
            print(figures, flush=True)
            for line, count in getattr(door, "unforeseen", {}).items():
                print(f"  unforeseen, {count} times: {line}")
            found.append(figures)
            if not figures.violations:
                break
            place = _place(figures, door.batch_count)
            print(f"  try again with `make fuzz DOOR={name} SEED={order.seed} {place}`")
            for service in ("dbserver", "broker", "agent", "template"):
                print(f"  --- end of {service}.log\n{scene.log_tail(service, LOG_BYTES)}", flush=True)
        first = order.first + figures.input_count
        order = replace(order, first=first, count=last - first, longest_s=end_s - time.monotonic())
    return found


def _place(figures: Figures, batch_count: int) -> str:
    """The last batch, one input after the other."""
    size = figures.order.batch_count or batch_count
    end = figures.order.first + figures.input_count
    first = max(figures.order.first, end - size)
    return f"FIRST={first} INPUTS={end - first} BATCH=1"


def main() -> int:
    """Try doors one after the other; exit code 1 if a promise was broken."""
    wanted, order = read_order()
    print(f"seed {order.seed}: {order.count} inputs at each door, {order.longest_s / 60:g} minutes at most")
    found = {name: fuzz(name, order) for name in wanted}
    broken = [
        name for name, all_figures in found.items() if any(figures.violations for figures in all_figures)
    ]
    for name, all_figures in found.items():
        count = sum(figures.input_count for figures in all_figures)
        gap_s = max((gap_s for figures in all_figures for gap_s in figures.gaps_s.values()), default=0.0)
        wrong = sum(len(figures.violations) for figures in all_figures)
        short = ", SHORT" if count < order.count and name not in broken else ""
        print(f"{name:17} {count:8} inputs{short}, longest gap {gap_s:.2f} s, {wrong} violations")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
