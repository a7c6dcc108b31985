"""Drawings of boxes and arrows, as SVG: who talks to whom, and what a calculation goes through."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

INK, PAPER = "#22303c", "#ffffff"
COLOURS = {"person": "#fff3d6", "service": "#dcebf7", "process": "#e3f3e1", "store": "#eee7f5"}
_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"
font-size="14">
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0L8 4L0 8z" fill="{ink}"/></marker></defs>
<rect width="{width}" height="{height}" fill="{paper}"/>
"""


def _head(width: int, height: int) -> str:
    return _HEAD.format(width=width, height=height, ink=INK, paper=PAPER)


def _box(place: tuple[int, int], size: tuple[int, int], kind: str, title: str, text: str = "") -> str:
    (x, y), (width, height) = place, size
    middle = x + width // 2
    first = y + height // 2 + (5 if not text else -4)
    lines = f'<text x="{middle}" y="{first}" text-anchor="middle" font-weight="bold">{escape(title)}</text>\n'
    if text:
        lines += (
            f'<text x="{middle}" y="{first + 19}" text-anchor="middle" font-size="12">{escape(text)}</text>\n'
        )
    frame = f'fill="{COLOURS[kind]}" stroke="{INK}"'
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" {frame}/>\n{lines}'


def _frame(place: tuple[int, int], size: tuple[int, int], title: str) -> str:
    (x, y), (width, height) = place, size
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="none" stroke="#8899a6"'
        ' stroke-dasharray="6 4"/>\n'
        f'<text x="{x + 12}" y="{y + height - 12}" fill="#5b6b78">{escape(title)}</text>\n'
    )


def _arrow(begin: tuple[int, int], end: tuple[int, int], text: str = "", *, side: int = -7) -> str:
    (x1, y1), (x2, y2) = begin, end
    line = f'<path d="M{x1} {y1}L{x2} {y2}" stroke="{INK}" fill="none" marker-end="url(#tip)"/>\n'
    if not text:
        return line
    x, y = (x1 + x2) // 2, (y1 + y2) // 2 + side
    halo = f'paint-order="stroke" stroke="{PAPER}" stroke-width="5"'
    return line + f'<text x="{x}" y="{y}" text-anchor="middle" font-size="12" {halo}>{escape(text)}</text>\n'


def _label(place: tuple[int, int], text: str) -> str:
    halo = f'paint-order="stroke" stroke="{PAPER}" stroke-width="5"'
    return f'<text x="{place[0]}" y="{place[1]}" font-size="12" {halo}>{escape(text)}</text>\n'


def architecture() -> str:
    """The processes of a cluster and who talks to whom."""
    parts = [
        _head(900, 570),
        _frame((20, 110), (860, 185), "master"),
        _frame((20, 340), (860, 210), "each node (the master is one, too)"),
        _box((40, 20), (170, 56), "person", "quakegrid run", "no engine in it"),
        _box((365, 20), (170, 56), "person", "browser, QGIS"),
        _box((670, 20), (170, 56), "person", "Python program", "executor"),
        _box((150, 145), (150, 56), "service", "dbserver", "gRPC 1908"),
        _box((375, 145), (150, 56), "service", "web", "HTTP 8800"),
        _box((620, 145), (150, 56), "service", "broker", "gRPC 1911"),
        _box((150, 240), (150, 36), "store", "database"),
        _box((690, 240), (170, 36), "service", "lanes, 1912 to 1920"),
        _box((40, 380), (170, 60), "service", "agent", "gRPC 1909, unix socket"),
        _box((300, 380), (170, 60), "process", "template", "has the engine loaded"),
        _box((400, 475), (180, 56), "process", "driver", "the engine's master side"),
        _box((680, 475), (170, 56), "process", "workers", "one a core, run tasks"),
        _arrow((85, 76), (85, 380)),
        _label((92, 322), "asks its machine's agent"),
        _arrow((450, 76), (450, 145)),
        _arrow((375, 173), (300, 173), "jobs, logs"),
        _arrow((525, 173), (620, 173), "nodes"),
        _arrow((755, 76), (755, 145), "opens a session"),
        _arrow((225, 201), (225, 240)),
        _arrow((740, 201), (760, 240)),
        _arrow((640, 201), (190, 380), "orders workers"),
        _arrow((210, 410), (300, 410), "forks"),
        _arrow((430, 440), (460, 475)),
        _arrow((470, 425), (690, 475)),
        _arrow((545, 475), (720, 276), "tasks"),
        _arrow((785, 276), (785, 475), "tasks"),
        "</svg>\n",
    ]
    return "".join(parts)


def calculation() -> str:
    """A calculation from the command to its results."""
    steps = (
        ("person", "quakegrid run", "job.ini"),
        ("service", "agent", "orders a driver"),
        ("process", "driver", "reads the model"),
        ("service", "broker", "gives cores"),
        ("service", "lane", "passes tasks"),
        ("process", "workers", "run tasks"),
        ("process", "driver", "collects outcomes"),
        ("store", "results", "datastore, exports"),
    )
    labels = ("socket", "fork", "session", "keys", "tasks", "outcomes", "writes")
    parts = [_head(900, 300)]
    places = [(20 + (n % 4) * 225, 40 + (n // 4) * 150) for n in range(len(steps))]
    for (kind, title, text), place in zip(steps, places, strict=True):
        parts.append(_box(place, (160, 64), kind, title, text))
    for number, label in enumerate(labels):
        (x1, y1), (x2, y2) = places[number], places[number + 1]
        if y1 == y2:
            parts.append(_arrow((x1 + 160, y1 + 32), (x2, y2 + 32), label))
        else:
            parts.append(_arrow((x1 + 80, y1 + 64), (x2 + 80, y2), label, side=4))
    return "".join([*parts, "</svg>\n"])


DRAWINGS: dict[str, Callable[[], str]] = {"architecture": architecture, "calculation": calculation}
