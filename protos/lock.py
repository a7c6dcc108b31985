"""Writes protos/lock.json: the contracts that `make check` compares protos/ with.

`make protos` runs it when nothing in protos/ breaks the locked contracts; `make protos-lock` runs it in any
case. The file is an image of buf, in lines that are short enough for a diff.
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

PROTOS = Path(__file__).parent
BUF = Path(sysconfig.get_path("scripts")) / "buf"
LINE_LENGTH = 150


def lines(value: Any, indent: str = "") -> str:
    """JSON in which what fits into one line has one line."""
    line = json.dumps(value)
    if len(indent) + len(line) <= LINE_LENGTH or not isinstance(value, dict | list):
        return line
    deeper = f"{indent} "
    if isinstance(value, list):
        return "[\n" + ",\n".join(deeper + lines(item, deeper) for item in value) + f"\n{indent}]"
    inner = (f"{deeper}{json.dumps(key)}: {lines(item, deeper)}" for key, item in value.items())
    return "{\n" + ",\n".join(inner) + f"\n{indent}}}"


def main() -> None:
    """Ask buf for the contracts, without comments, and write them."""
    build = [BUF, "build", PROTOS, "--exclude-source-info", "--output", "-#format=json"]
    image = subprocess.run(build, check=True, stdout=subprocess.PIPE).stdout
    (PROTOS / "lock.json").write_text(lines(json.loads(image)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
