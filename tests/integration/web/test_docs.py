"""What the service says of its routes, to programs and to people."""

from __future__ import annotations

import json
import re

import jsonschema
from playwright.sync_api import Page, expect

from tests.integration.web.conftest import Web

# Of OpenAPI 3.1, what readers of descriptions rely on.
SCHEMA = {
    "type": "object",
    "required": ["openapi", "info", "paths"],
    "properties": {
        "openapi": {"const": "3.1.0"},
        "info": {"type": "object", "required": ["title", "version"]},
        "paths": {
            "type": "object",
            "patternProperties": {
                "^/": {
                    "type": "object",
                    "additionalProperties": False,
                    "patternProperties": {
                        "^(get|post|put)$": {
                            "type": "object",
                            "required": ["summary", "operationId", "parameters", "responses"],
                            "properties": {
                                "summary": {"type": "string", "minLength": 5},
                                "parameters": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "required": ["name", "in", "schema"],
                                        "properties": {"in": {"enum": ["path", "query"]}},
                                    },
                                },
                            },
                        }
                    },
                }
            },
            "additionalProperties": False,
        },
    },
}
UPSTREAM = [
    "/v1/engine_version",
    "/v1/engine_latest_version",
    "/v1/available_gsims",
    "/v1/ini_defaults",
    "/v1/valid/",
    "/v1/on_same_fs",
    "/v1/calc/list",
    "/v1/calc/{job_id}",
    "/v1/calc/{job_id}/status",
    "/v1/calc/run",
    "/v1/calc/run_ini",
    "/v1/calc/validate_zip",
    "/v1/calc/validate_ini",
    "/v1/calc/jobs_from_inis",
    "/v1/calc/{job_id}/abort",
    "/v1/calc/{job_id}/remove",
    "/v1/calc/{job_id}/results",
    "/v1/calc/result/{job_id}",
    "/v1/calc/{job_id}/extract/{what}",
    "/v1/calc/{job_id}/datastore",
    "/v1/calc/{job_id}/job_zip",
    "/v1/calc/{job_id}/download_png/{what}",
    "/v1/calc/{job_id}/traceback",
    "/v1/calc/{job_id}/log/size",
    "/v1/calc/{job_id}/log/{lines}",
    "/v1/calc/{job_id}/share",
    "/v1/calc/{job_id}/unshare",
    "/v1/calc/list_tags",
    "/v1/calc/create_tag/{tag}",
]


def test_routes_are_described_for_programs(web: Web) -> None:
    """Each with words, parameters and a name of its own; path parameters stand in the path."""
    description = web.get("/openapi.json").json

    jsonschema.validate(description, SCHEMA)
    assert set(UPSTREAM) <= description["paths"].keys()
    operations = [each for methods in description["paths"].values() for each in methods.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    for path, methods in description["paths"].items():
        for operation in methods.values():
            named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))
            assert "`" not in operation["summary"], path
    form = description["paths"]["/v1/calc/run"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert list(form["schema"]["properties"]) == ["archive", "job_ini", "hazard_job_id", "notify_to"]
    assert json.dumps(description).isascii()


def test_routes_are_described_for_people(page: Page) -> None:
    """On a page that needs no internet, and can be searched."""
    page.goto("/docs")
    expect(page.locator(".route").first).to_be_visible()

    page.get_by_label("Find").fill("notify_to")

    expect(page.locator(".route:visible")).to_have_count(2)
    expect(page.locator(".route:visible").first).to_contain_text("/v1/calc/run")
