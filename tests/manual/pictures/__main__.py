"""Make the pictures of the manual anew: `make pictures`. Look at each of them before you commit it.

Names of pictures as arguments make these only.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.manual.pages import DOCS
from tests.manual.pictures import drawings, screens
from tests.manual.terminal import opened

FOLDER = DOCS / "pictures"


def main(wanted: list[str]) -> None:
    """Make them."""
    FOLDER.mkdir(exist_ok=True)
    for name, drawing in drawings.DRAWINGS.items():
        (FOLDER / f"{name}.svg").write_text(drawing(), encoding="utf-8")
    if wanted and set(wanted) <= set(drawings.DRAWINGS):
        return
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as terminal:
        (FOLDER / "demo.svg").write_text(screens.shown(terminal, "quakegrid demo"), encoding="utf-8")
        (FOLDER / "status.svg").write_text(screens.shown(terminal, "quakegrid status"), encoding="utf-8")
        shutil.copyfile(terminal.home / "quakegrid-demo" / "demo.png", FOLDER / "demo.png")
        screens.photograph(terminal, FOLDER)


if __name__ == "__main__":
    main(sys.argv[1:])
