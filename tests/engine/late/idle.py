"""Preloaded into the template of an agent: its drivers find a core idle as soon as they wait."""

from __future__ import annotations

from quakegrid.engine.tasks import late_exports

late_exports.LOOK_S = 0.001
late_exports.IDLE_SHARE = 0.0
