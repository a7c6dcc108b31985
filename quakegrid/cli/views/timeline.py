"""A figure of the cores that a session had and of those that were busy, over time.

Uses matplotlib, which comes with the engine; imports it only when a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quakegrid import errors

Steps = Sequence[tuple[float, float]]


def draw(held: Steps, busy: Steps, title: str, path: Path) -> None:
    """Draw a PNG.

    Args:
        held: cores that the session had, `(since_s, count)` in order of time.
        busy: those that ran a task.
        title: of the figure.
        path: of the PNG; replaced if it exists.
    Raises:
        EngineMissingError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and not always there
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - as above
    except ImportError:
        raise errors.EngineMissingError("--png needs matplotlib: pip install matplotlib") from None
    start_s = min((steps[0][0] for steps in (held, busy) if steps), default=0.0)
    figure = Figure(figsize=(9.0, 3.6), layout="constrained", dpi=150)
    panel = figure.subplots()
    for steps, label, colour in ((held, "workers", "0.85"), (busy, "busy", "tab:blue")):
        times_s = [time_s - start_s for time_s, _ in steps]
        counts = [count for _, count in steps]
        panel.fill_between(times_s, counts, step="post", label=label, color=colour, linewidth=0)
    panel.set_xlim(left=0.0)
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel("Time, s")
    panel.set_ylabel("Cores")
    panel.set_title(title)
    figure.legend(loc="outside right upper")
    figure.savefig(path, format="png")
