"""Start a lane: `python -m quakegrid.services.lane`, by the broker only."""

from __future__ import annotations

import sys

from quakegrid.services.lane.loop import main

if __name__ == "__main__":
    sys.exit(main())
