"""The description of all routes, as OpenAPI has it: made of the routes themselves and of what they say.

A route's coroutine begins its docstring with its method and address: "`GET /v1/calc/N`: the row of one
calculation.". What a docstring cannot say, the fields of requests, stands in a table here. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from starlette.routing import BaseRoute, Route

import quakegrid

_FIELD = re.compile(r"\{(\w+)(?::(\w+))?\}")
_SAID = re.compile(r"`[^`]*`(?: and [^:]*)?: ?(.*)", re.DOTALL)
_LIST = {
    "calculation_mode": "only those of this mode",
    "is_running": "true or false",
    "include_shared": "0 to leave out calculations that others share",
    "user_name_like": "a pattern, with % for any text",
    "start_time": "only those that began later, such as 2026-11-28",
    "preferred_only": "1 for those that are preferred for a tag",
    "filter_by_tag": "only those with this tag",
    "limit": "at most 1000 rows, 100 if not given",
    "offset": "how many rows are skipped",
    "order_by": "a column, such as start_time",
    "order_dir": "ASC or DESC",
}
# Of queries, by path.
QUERIES: dict[str, dict[str, str]] = {
    "/v1/calc/list": _LIST,
    "/v1/calc/{job_id}/status": {},
    "/v1/calc/result/{job_id}": {"export_type": "a format of the output; xml if not given"},
    "/v1/calc/jobs_from_inis": {"ini": "whole path of a job file on the server; may be given many times"},
    "/calculations/{job_id}/tasks.json": {
        "from": "begin of the part that is looked at, in seconds since the session was opened",
        "to": "its end",
    },
    "/v1/inputs/{sha256}": {
        "offset": "where in the file the piece begins",
        "size": "bytes of the whole file",
    },
    "/live/log/{job_id}": {"after": "the number of the last line that was seen"},
}
_RUN = {
    "archive": "one .zip, or many files: the job file and all its inputs",
    "job_ini": "what the name of the job file ends in; .ini if not given",
    "hazard_job_id": "the calculation whose results it starts from",
    "notify_to": "an http address that gets the row of the calculation when it ends",
}
_PATH = {"job_ini": "whole path of the job file on the server"}
# Of forms, by path; `archive` is a file.
FORMS: dict[str, dict[str, str]] = {
    "/v1/calc/run": _RUN,
    "/v1/calc/run_ini": {**_PATH, **{name: _RUN[name] for name in ("hazard_job_id", "notify_to")}},
    "/v1/calc/validate_zip": {"archive": _RUN["archive"]},
    "/v1/calc/validate_ini": _PATH,
    "/v1/valid/": {"xml_text": "the text of an NRML file"},
    "/v1/on_same_fs": {"filename": "a path on the server", "checksum": "adler32 of its first 32 bytes"},
}
# Of JSON bodies, by path.
DOCUMENTS: dict[str, dict[str, str]] = {
    "/v1/inputs/missing": {"files": "objects with `name`, `size` in bytes and `sha256` of each file"},
}
FILE_FIELD = "archive"

# Of routes that share a coroutine, by the part of their address that tells them apart.
WORDS = {
    "add_tag": "give a calculation a tag that there is",
    "remove_tag": "take a tag from a calculation",
    "set_preferred_job_for_tag": "prefer a calculation among those with a tag",
    "unset_preferred_job_for_tag": "prefer none of those with a tag",
    "get_preferred_job_for_tag": "the calculation that is preferred among those with a tag",
    "create_tag": "make a tag",
    "delete_tag": "remove a tag, and take it from all calculations",
    "unshare": "let others see a calculation no more",
    "share": "let others see a complete calculation",
}


def describe(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The description of routes.

    Args:
        routes: of the application; pages are left out, what they ask for is not.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if isinstance(route, Route) and _is_told(route.path):
            path = _FIELD.sub(lambda found: f"{{{found[1]}}}", route.path)
            for method in sorted((route.methods or set()) - {"HEAD"}):
                paths.setdefault(path, {})[method.lower()] = _operation(route, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "QuakeGrid",
            "version": quakegrid.__version__,
            "description": "The HTTP API of the OpenQuake engine 3.26, and live events, of a QuakeGrid "
            "cluster.",
            "license": {"name": "AGPL-3.0-or-later", "identifier": "AGPL-3.0-or-later"},
        },
        "paths": paths,
    }


def _is_told(path: str) -> bool:
    return (
        path.startswith(("/v1/", "/live/", "/cluster/nodes/")) or path.endswith(".json") or path == "/health"
    )


def _operation(route: Route, path: str) -> dict[str, Any]:
    words, module = _said(route), route.endpoint.__module__.rpartition(".")[2]
    operation: dict[str, Any] = {
        "summary": words,
        "operationId": f"{module}_{route.endpoint.__name__}_{_slug(path)}",
        "tags": [path.split("/")[1] if path.startswith(("/v1", "/live")) else "pages"],
        "parameters": [*map(_path_parameter, _FIELD.findall(route.path)), *_query_parameters(path)],
        "responses": {
            "200": {"description": words},
            "403": {"description": "another user of the machine, or a page of another site"},
            "404": {"description": "there is no such thing"},
        },
    }
    if path in DOCUMENTS:
        properties = {name: {"description": words} for name, words in DOCUMENTS[path].items()}
        schema = {"type": "object", "properties": properties}
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    if path in FORMS:
        operation["requestBody"] = _form(FORMS[path])
        operation["responses"]["400"] = {"description": "what was sent is not taken; the answer says why"}
    return operation


def _said(route: Route) -> str:
    """What a route's coroutine says of itself, on one line."""
    for part in route.path.split("/"):
        if part in WORDS:
            return WORDS[part]
    text = (route.endpoint.__doc__ or "").split("\n\n")[0]
    found = _SAID.match(text)
    return " ".join((found[1] if found else text).replace("`", "").split())


def _slug(path: str) -> str:
    return re.sub(r"\W+", "_", path).strip("_")


def _path_parameter(found: tuple[str, str]) -> dict[str, Any]:
    name, kind = found
    schema = {"type": "integer", "minimum": 1} if kind == "int" else {"type": "string"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "description": words, "schema": {"type": "string"}}
        for name, words in QUERIES.get(path, {}).items()
    ]


def _form(fields: dict[str, str]) -> dict[str, Any]:
    """A form's fields; one with a file is sent in parts."""
    properties: dict[str, Any] = {}
    for name, words in fields.items():
        if name == FILE_FIELD:
            items = {"type": "string", "contentMediaType": "application/octet-stream"}
            properties[name] = {"type": "array", "items": items, "description": words}
        else:
            properties[name] = {"type": "string", "description": words}
    kind = "multipart/form-data" if FILE_FIELD in fields else "application/x-www-form-urlencoded"
    return {"content": {kind: {"schema": {"type": "object", "properties": properties}}}}
