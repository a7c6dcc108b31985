"""The routes of the web service, as its OpenAPI description has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from quakegrid.services.web import description
from quakegrid.services.web.app import all_routes

_HEAD = """\
# HTTP API

*Generated from the code by `make reference`.*

The routes of the web service. A running service describes them for programs at `/openapi.json`, and shows
them at `/docs`. [Use the HTTP API](../how-to/http-api.md) says how they work together, and how they differ
from those of the engine's own server.

"""


def markdown() -> str:
    """The page."""
    return _HEAD + "".join(_rows(description.describe(all_routes())["paths"]))


def _rows(paths: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield "| route | does | takes |\n|---|---|---|\n"
    for path, operations in sorted(paths.items()):
        for method, operation in operations.items():
            takes = "; ".join([*_parameters(operation), *_body(operation)]).replace("|", "\\|")
            yield f"| `{method.upper()} {path}` | {operation['summary']} | {takes or '-'} |\n"


def _parameters(operation: dict[str, Any]) -> Iterator[str]:
    for parameter in operation["parameters"]:
        if parameter["in"] == "query":
            yield f"`{parameter['name']}`: {parameter['description']}"


def _body(operation: dict[str, Any]) -> Iterator[str]:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        for name, field in content["schema"]["properties"].items():
            yield f"`{name}`: {field['description']}"
