"""How often a template may fail to load the same code, and what is started in its place. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from quakegrid.services.agent.rules.template_life import TemplateLife

MAX_LOAD_FAILURES = 3
LOAD_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class NextTry:
    """The template to start in place of a dead one. If none is to start, `given_up` says why."""

    bare_reason: str = ""
    delay_s: float = 0.0
    given_up: str = ""


@dataclass(slots=True)
class LoadFailures:
    """Failures in a row to load the same code."""

    _count: int = 0

    def forget(self) -> None:
        """The code has changed, or was loaded."""
        self._count = 0

    def next_try(self, dead: TemplateLife, how: str) -> NextTry:
        """What to start next: the same template once more, a bare one, or none.

        Args:
            dead: the template that ended.
            how: how it ended, in words.
        """
        self._count += dead.is_loading
        is_given_up = dead.has_failed or self._count >= MAX_LOAD_FAILURES
        if not is_given_up:
            return NextTry(dead.bare_reason, LOAD_PAUSE_S * self._count)
        reason = f"it ended {MAX_LOAD_FAILURES} times while loading ({how})"
        if dead.has_failed:
            reason = dead.state.reason
        if dead.bare_reason:
            return NextTry(given_up=reason)
        self._count = 0
        return NextTry(reason)
