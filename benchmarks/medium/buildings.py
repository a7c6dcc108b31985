"""The exposure of the medium risk calculation: buildings at random places, the same ones each time."""

from __future__ import annotations

import random
from pathlib import Path

COUNT = 5_000
# The part of the region that has people: degrees of longitude and latitude.
WEST, SOUTH, EAST, NORTH = 10.8, 43.8, 12.8, 45.4
KINDS = {"masonry": 0.5, "concrete": 0.4, "timber": 0.1}


def write(path: Path, count: int = COUNT) -> None:
    """Write a CSV file of buildings as the engine reads it; values are in EUR a building."""
    chance = random.Random(42)
    kinds = chance.choices(list(KINDS), list(KINDS.values()), k=count)
    rows = (
        f"b{number},{chance.uniform(WEST, EAST):.4f},{chance.uniform(SOUTH, NORTH):.4f},{kind},"
        f"{chance.randint(1, 9)},{chance.randrange(100_000, 900_000, 10_000)}"
        for number, kind in enumerate(kinds)
    )
    path.write_text("\n".join(["id,lon,lat,taxonomy,number,structural", *rows, ""]), encoding="utf-8")
