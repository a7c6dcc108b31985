"""Write the pages of the reference: `make reference`; with `--check` only name those that are stale."""

from __future__ import annotations

import sys

from tests.manual.pages import DOCS
from tests.manual.reference.pages import PAGES


def main(*, is_check: bool) -> int:
    """Write the pages, or compare them; 1 if one is stale."""
    stale = []
    for name, page in PAGES.items():
        path = DOCS / "reference" / f"{name}.md"
        text = page()
        if is_check and path.read_text(encoding="utf-8") != text:
            stale.append(name)
        elif not is_check:
            path.write_text(text, encoding="utf-8")
    print(*stale, sep="\n", end="")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(is_check="--check" in sys.argv))
