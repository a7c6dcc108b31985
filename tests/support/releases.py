"""Other releases of QuakeGrid, for tests: copies of this tree with other numbers in them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels, lane_sockets
from tests.support.nodes import NodeService

REPOSITORY = Path(__file__).parents[2]
NEWER = "9.9.9"


def make_release(
    directory: Path,
    *,
    api_version: int = grpc_channels.API_VERSION,
    protocol_version: int = lane_sockets.PROTOCOL_VERSION,
) -> Path:
    """Make release 9.9.9, which speaks these versions; returns its root, for PYTHONPATH.

    Args:
        directory: must not exist.
        api_version: of the gRPC services.
        protocol_version: of the lanes.
    """
    shutil.copytree(REPOSITORY / "quakegrid", directory / "quakegrid")
    numbers = {
        "quakegrid/__init__.py": ("__version__", f'"{NEWER}"'),
        "quakegrid/transport/grpc_channels.py": ("API_VERSION", str(api_version)),
        "quakegrid/transport/lane_sockets.py": ("PROTOCOL_VERSION", str(protocol_version)),
    }
    for path, (name, value) in numbers.items():
        text, count = re.subn(
            rf"^{name} = .*$", f"{name} = {value}", (directory / path).read_text(), flags=re.MULTILINE
        )
        assert count == 1, f"{path} has no {name}"
        (directory / path).write_text(text)
    return directory


class ReleasedService(NodeService):
    """A service of another release."""

    def __init__(self, settings: Settings, name: str, root: Path) -> None:
        super().__init__(settings, name)
        self._root = root

    @property
    def command(self) -> list[str]:
        """Without what is in the working directory."""
        python, *rest = super().command
        return [python, "-P", *rest]

    @property
    def environment(self) -> dict[str, str]:
        """Its modules are found before the installed ones."""
        return super().environment | {"PYTHONPATH": str(self._root)}
