"""Events of templates, and the actions that the lineage asks for. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

from quakegrid.nodes.template_state import TemplateState


@dataclass(frozen=True, slots=True)
class CodeSeen:
    """The code on disk was looked at, and has this stamp. The first such event starts a template."""

    stamp: str


@dataclass(frozen=True, slots=True)
class TemplateNotStarted:
    """A template could not be started, since the machine had no room for a process."""

    number: int


@dataclass(frozen=True, slots=True)
class TemplateAnswered:
    """A template gave a sign of life."""

    number: int


@dataclass(frozen=True, slots=True)
class TemplateReady:
    """A template can fork."""

    number: int
    state: TemplateState


@dataclass(frozen=True, slots=True)
class TemplateFailed:
    """A template says that it cannot work. It ends by itself."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class TemplateGone:
    """A template is dead, and its children with it."""

    number: int
    how: str


@dataclass(frozen=True, slots=True)
class ChildOrdered:
    """A template was told to fork a child. No other template could take over the child if it is a driver."""

    number: int
    name: str
    is_driver: bool = False


@dataclass(frozen=True, slots=True)
class ChildForked:
    """A template forked a child."""

    number: int
    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class ChildNotForked:
    """A template could not fork a child."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class ChildExited:
    """A child of a template ended."""

    number: int
    pid: int


Event = (
    CodeSeen
    | TemplateNotStarted
    | TemplateAnswered
    | TemplateReady
    | TemplateFailed
    | TemplateGone
    | ChildOrdered
    | ChildForked
    | ChildNotForked
    | ChildExited
)


@dataclass(frozen=True, slots=True)
class StartTemplate:
    """Start a template. A bare one preloads nothing, for the reason given."""

    number: int
    bare_reason: str = ""
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class StopTemplate:
    """End a template that has no children and is not needed."""

    number: int


@dataclass(frozen=True, slots=True)
class KillTemplate:
    """Kill a template that does not answer. Its end will be reported."""

    number: int


@dataclass(frozen=True, slots=True)
class PingTemplate:
    """Ask a template for a sign of life."""

    number: int


@dataclass(frozen=True, slots=True)
class ReportLost:
    """Tell that these children died with their template, or that it never forked them."""

    names: tuple[str, ...]
    reason: str


Action = StartTemplate | StopTemplate | KillTemplate | PingTemplate | ReportLost
