"""Write the pages of the reference: `make reference`."""

from __future__ import annotations

from tests.manual.pages import DOCS
from tests.manual.reference.pages import PAGES

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / "reference" / f"{name}.md").write_text(page(), encoding="utf-8")
