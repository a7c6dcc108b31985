"""Drivers that run as people: as whom, the files that they hand over, and what is removed with their rights.

    request ── whose ──► engine_views, starts ──► agent ──► driver as the person
                              ▲  handed_files: a descriptor comes back
    deletion, sweep ── removals ─┘

This service never opens or removes a path of a person itself: it would do so with its own rights.
"""
