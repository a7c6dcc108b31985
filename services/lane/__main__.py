"""Start a lane: `python -m services.lane`, by the broker only."""

from __future__ import annotations

import sys

from services.lane.loop import main

if __name__ == "__main__":
    sys.exit(main())
