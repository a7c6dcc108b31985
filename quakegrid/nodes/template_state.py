"""What a node's template can do: a kind for programs, a reason for people. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class TemplateKind(Enum):
    """Whether workers can start on a node; protos/quakegrid/api/v1/nodes.proto says what each kind means."""

    LOADING = "loading"
    WARM = "warm"
    COLD = "cold"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TemplateState:
    """A kind, and why it is not simply warm; `str()` is for people."""

    kind: TemplateKind
    reason: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether workers can start."""
        return self.kind in (TemplateKind.WARM, TemplateKind.COLD)

    def __str__(self) -> str:
        if not self.reason:
            return self.kind.value
        return f"{self.kind.value}{',' if self.kind is TemplateKind.WARM else ':'} {self.reason}"
