"""An agent that starts `fake_template.py` in place of its template; its arguments are the agent's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from quakegrid.services.agent.__main__ import main

if __name__ == "__main__":
    os.environ["FUZZ_PYTHON"] = sys.executable
    sys.executable = str(Path(__file__).with_name("fake_template.py"))
    sys.exit(main())
