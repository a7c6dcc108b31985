"""Start a template: `python -m services.agent.template`, by the agent only."""

from __future__ import annotations

import sys

from services.agent.template.fork_loop import main

if __name__ == "__main__":
    sys.exit(main())
