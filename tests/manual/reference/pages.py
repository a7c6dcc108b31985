"""Which page of the reference is made by what."""

from __future__ import annotations

from collections.abc import Callable

from quakegrid.settings import reference as settings
from tests.manual.reference import commands, errors, http_routes, metrics, protos

PAGES: dict[str, Callable[[], str]] = {
    "commands": commands.markdown,
    "settings": settings.markdown,
    "errors": errors.markdown,
    "metrics": metrics.markdown,
    "http-routes": http_routes.markdown,
    "protos": protos.markdown,
}
