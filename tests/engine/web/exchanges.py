"""Requests whose answers are compared with those of the engine's own server, and all that may differ.

`python -m tests.engine.web.exchanges` writes the table of differences into docs/how-to/http-api.md; a test
compares it.
In paths, `/N` is the calculation and `/O` an output of it that has a csv.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MANUAL = Path(__file__).parents[3] / "docs" / "how-to" / "http-api.md"
BEGIN, END = "<!-- differences: written by tests/engine/web/exchanges.py -->", "<!-- end of differences -->"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Difference:
    """What our answers have otherwise, on purpose."""

    what: str
    there: str
    here: str
    why: str


DIFFERENCES = {
    "pages": Difference(
        "`/`, `/engine`, `/engine/N/outputs`", "its pages", "to the pages described above", "they are live"
    ),
    "license": Difference("`/engine/license`", "a page", "the text alone", "the same text"),
    "text": Difference(
        "`Content-Type` of versions and of errors", "`text/html`", "`text/plain`", "it is no HTML; "
        "the texts of versions are the same"
    ),
    "words": Difference(
        "errors", "nothing, or a page", '`{"error": …}` or one line', "the status is the same"
    ),
    "names": Difference(
        "names of extracts", "`oqparam3doxyukd.npz`", "`oqparam.npz`", "the letters mean nothing"
    ),
    "numbers": Difference(
        "a number in a query that is none, or below 0", "500, or all rows", "400", "it says which one"
    ),
    "rows": Difference("more than 1000 rows at once", "given", "400", "memory; use `offset`"),
    "slash": Difference(
        "an address with a slash too many or too few", "404, or 301", "307 to the right", "people type them"
    ),
    "post": Difference("POST for what is only read", "403", "405", "it says what is allowed"),
    "head": Difference("HEAD for what is only read", "405, or 200", "200", "as HTTP has it"),
    "options": Difference(
        "OPTIONS", "200 for pages of all sites", "405", "pages of other sites may not ask at all"
    ),
    "cors": Difference(
        "`Access-Control-Allow-Origin`", "`*`", "for `[web] origins` only", "pages of other sites may not ask"
    ),
    "others": Difference(
        "log, traceback, `job_zip`, sharing and tags of others' calculations", "given, and done",
        "only for who sees, or owns, the calculation", "forgotten there"
    ),
    "passwords": Difference(
        "wrong passwords without end", "403", "403, then 429 with how long to wait", "nobody may try them all"
    ),
    "temporary": Difference(
        "the error of `/v1/valid/`", "names a file of the server", "names none", "its files are its own"
    ),
    "log size": Difference("`/v1/calc/N/log/size`", "500", "the number", "a fault of its own"),
    "backwards": Difference("`log/A:B` with B below A", "all from A on", "`[]`", "a fault of its own"),
    "no log": Difference("the log of a calculation that there is not", "`[]`", "404", "it is not there"),
    "no job": Difference(
        "`share`, `unshare` of a calculation that there is not", "500", "404", "a fault of its own"
    ),
    "format": Difference("an export in a format that it has not", "500", "404", "a fault of its own"),
    "picture": Difference("a picture that there is not", "500", "404", "a fault of its own"),
    "no file": Difference(
        "`jobs_from_inis` of a file that there is not", "500", "400 with `error`", "no fault of the server"
    ),
    "form": Difference(
        "a form that is refused before the engine sees it", "500 with a failed calculation", "400, and none",
        "nothing has begun"
    ),
    "validate_ini": Difference("`validate_ini`", "never valid", "works; 400 without", "a fault of its own"),
    "validate_zip": Difference(
        "`validate_zip` of a valid archive", "`valid` is false", "true", "a fault of its own"
    ),
    "same fs": Difference(
        "`on_same_fs` without a file, or for one outside of `shared_dir`", "500, or looked at", "`false`",
        "what others contain is nobody's business"
    ),
    "owner": Difference("`job_owner` of somebody else", "taken", "403", "nobody may act as another"),
    "hazard": Difference("`hazard_job_id` that there is not", "runs, and fails", "400", "it cannot work"),
    "address": Difference("`run_ini` with an address", "fetched", "400", "the server asks nobody"),
    "range": Difference("`Range` of files", "left out", "206", "large downloads go on"),
    "abortable": Difference(
        "`abortable`", "for drivers on its own node", "for all that run", "jobs run on any node"
    ),
    "down": Difference("a service that does not answer", "500", "503", "it says which one"),
    "scenario": Difference(
        "`run_scenario_calc_from_ses_rupture`", "there", "404", "needs files of one project"
    ),
}  # fmt: skip
# Shown by tests of their own, beside the exchanges.
SHOWN_ELSEWHERE = frozenset({
    "validate_zip",  # test_web_runs: test_archive_is_validated
    "owner",  # test_uploads: FIELDS
    "hazard",  # test_web_runs: test_risk_continues_from_hazard
    "address",  # test_uploads: PATHS
    "range",  # test_web_api: test_datastore_is_given_whole_and_in_parts
    "abortable",  # test_web_runs: test_client_works_as_qgis_does
    "down",  # test_uploads: test_without_an_agent_nothing_is_kept
    "cors",  # looked at in each exchange
    "others",  # test_rights, for each route
    "passwords",  # tests/integration/web/logins
    "temporary",  # test_web_runs: test_xml_is_validated
    "names",  # looked at in each extract
})  # fmt: skip


@dataclass(frozen=True)
class Exchange:
    """A request, and what is compared of its answers.

    Args:
        path: after the host.
        method: of HTTP.
        body: a form.
        differs: why the status is another, by the key of the difference.
        statuses: theirs and ours, where they differ.
        compares: of the bodies: `json`, `npz`, `bytes`, `status` for nothing.
    """

    path: str
    method: str = "GET"
    body: str = ""
    differs: str = ""
    statuses: tuple[int, int] | None = None
    compares: str = "json"
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.body}".strip()


def _gets(*paths: str, compares: str = "json") -> list[Exchange]:
    return [Exchange(path, compares=compares) for path in paths]


def _differ(
    key: str, there: int, here: int, *paths: str, method: str = "GET", body: str = ""
) -> list[Exchange]:
    return [
        Exchange(path, method, body, key, None if there == here else (there, here), "status")
        for path in paths
    ]


_MISSING = "/v1/calc/99999"
_READ = ("/v1/calc/list", "/v1/calc/N/status", "/v1/calc/N", "/v1/calc/N/results", "/v1/calc/N/log/0:2")
_FILES = ("/v1/calc/result/O?export_type=csv", "/v1/calc/N/extract/oqparam", "/v1/calc/N/datastore")
_WRITTEN = (
    "/v1/calc/run", "/v1/calc/run_ini", "/v1/calc/validate_zip", "/v1/calc/validate_ini", "/v1/calc/N/abort",
    "/v1/calc/N/remove", "/v1/calc/N/share", "/v1/calc/N/unshare", "/v1/valid/", "/v1/on_same_fs",
)  # fmt: skip
# In this order: those of tags and of sharing build on each other.
EXCHANGES: list[Exchange] = [
    *_gets(
        "/v1/available_gsims", "/v1/ini_defaults", "/v1/calc/N/status", "/v1/calc/N", "/v1/calc/N/results",
        "/v1/calc/N/result/list", "/v1/calc/N/traceback", "/v1/calc/N/log/99999:",
        "/v1/calc/list?is_running=true", "/v1/calc/list?order_dir=x&limit=0", "/v1/calc/list?start_time=x",
        "/v1/calc/list?filter_by_tag=x", "/v1/calc/list?preferred_only=1", "/v1/calc/list?offset=9999",
        "/v1/calc/list?user_name_like=zzz", "/v1/calc/list?calculation_mode=none", "/v1/calc/jobs_from_inis",
        f"{_MISSING}/traceback",
    ),
    *_gets("/v1/calc/N/log/0:2", "/v1/calc/N/log/:", "/v1/calc/N/log/0:", compares="status"),
    *_differ("text", 200, 200, "/v1/engine_version", "/v1/engine_latest_version"),
    *_gets(
        "/v1/calc/N/extract/oqparam", "/v1/calc/N/extract/sitecol", "/v1/calc/N/extract/hcurves?kind=mean",
        "/v1/calc/N/extract/hcurves?kind=stats&imt=PGA", "/v1/calc/N/extract/realizations",
        "/v1/calc/N/extract/hcurves?kind=nonsense", compares="npz",
    ),
    *_gets("/v1/calc/result/O?export_type=csv", "/v1/calc/N/datastore", compares="file"),
    # Tags and sharing.
    *_gets(
        "/v1/calc/list_tags", "/v1/calc/create_tag/one", "/v1/calc/create_tag/one", "/v1/calc/N/add_tag/one",
        "/v1/calc/list_tags", "/v1/calc/get_preferred_job_for_tag/one",
        "/v1/calc/N/set_preferred_job_for_tag/one", "/v1/calc/get_preferred_job_for_tag/one",
        "/v1/calc/unset_preferred_job_for_tag/one", "/v1/calc/N/remove_tag/one", "/v1/calc/N/remove_tag/one",
        "/v1/calc/delete_tag/one", "/v1/calc/delete_tag/one", "/v1/calc/create_tag/a%20b",
        "/v1/calc/create_tag/%20", "/v1/calc/delete_tag/a%20b", "/v1/calc/delete_tag/%20",
        "/v1/calc/get_preferred_job_for_tag/none",
    ),
    *_differ("words", 403, 403, f"{_MISSING}/add_tag/one"),
    *(Exchange(f"/v1/calc/N/{action}", "POST") for action in ("share", "share", "unshare", "abort")),
    *(Exchange(f"{_MISSING}/{action}", "POST", compares="status") for action in ("abort", "remove")),
    *_differ("no job", 500, 404, f"{_MISSING}/share", f"{_MISSING}/unshare", method="POST"),
    # What is not there.
    *_differ(
        "words", 404, 404, _MISSING, f"{_MISSING}/status", f"{_MISSING}/results", f"{_MISSING}/datastore",
        f"{_MISSING}/job_zip", f"{_MISSING}/extract/oqparam", f"{_MISSING}/download_png/x.png",
        "/v1/calc/result/99999", "/v1/nothing", "/v1/calc", "/v1/calc/x/status", "/v1/calc/-1/status",
        "/v1/calc/99999999999999999999/status", "/v1/calc/N/log/-1:2", "/v1/calc/N/log/x:y",
        "/v1/calc/N/log/1", "/v1/calc/N/extract/a%20b", "/v1/calc/N/extract/a%3Bb",
        "/v1/calc/N/download_png/a%20b",
    ),
    *_differ("words", 404, 404, "/v1/nothing", "/v1/calc/nothing", method="POST"),
    *_differ("words", 500, 500, "/v1/calc/N/extract/nonsense"),
    *_differ("words", 400, 400, "/v1/calc/N/job_zip"),
    *_differ("words", 400, 400, "/v1/valid/", "/v1/calc/validate_zip", method="POST"),
    *_differ("backwards", 200, 200, "/v1/calc/N/log/5:2"),
    *_differ("no log", 200, 404, f"{_MISSING}/log/0:2"),
    *_differ("log size", 500, 200, "/v1/calc/N/log/size"),
    *_differ("log size", 500, 404, f"{_MISSING}/log/size"),
    *_differ("format", 500, 404, "/v1/calc/result/O?export_type=nope"),
    *_differ("picture", 500, 404, "/v1/calc/N/download_png/x.png"),
    *_differ("no file", 500, 400, "/v1/calc/jobs_from_inis?ini=/nowhere.ini"),
    *_differ("numbers", 500, 400, "/v1/calc/list?limit=x", "/v1/calc/list?preferred_only=x"),
    *_differ("numbers", 200, 400, "/v1/calc/list?limit=-1", "/v1/calc/list?offset=-1"),
    *_differ("rows", 200, 400, "/v1/calc/list?limit=2000"),
    # Methods.
    *_differ("words", 405, 405, *_WRITTEN),
    *_differ("words", 405, 405, "/v1/calc/run", "/v1/calc/N/abort", method="HEAD"),
    *_differ("post", 403, 405, *_READ, *_FILES, "/v1/available_gsims", "/v1/engine_version", method="POST"),
    *_differ("post", 403, 405, "/v1/calc/list", "/v1/calc/N/datastore", method="DELETE"),
    *_differ("post", 403, 405, "/v1/calc/N", "/v1/calc/N/results", method="PUT"),
    *_differ("words", 405, 405, "/v1/calc/list_tags", "/v1/calc/create_tag/x", method="POST"),
    *_differ("head", 405, 200, *_READ, "/v1/calc/N/datastore", "/v1/engine_version", method="HEAD"),
    *_differ("head", 200, 200, *_FILES[:2], method="HEAD"),
    *_differ("options", 200, 405, *_FILES, "/v1/engine_version", "/v1/calc/run", method="OPTIONS"),
    *_differ("options", 405, 405, "/v1/calc/list", "/v1/calc/N/results", method="OPTIONS"),
    # Forms without what they need.
    *_differ("form", 500, 400, "/v1/calc/run", "/v1/calc/run_ini", method="POST"),
    *_differ("validate_ini", 200, 400, "/v1/calc/validate_ini", method="POST"),
    *_differ("same fs", 500, 200, "/v1/on_same_fs", method="POST"),
    *_differ("scenario", 405, 404, "/v1/calc/run_scenario_calc_from_ses_rupture/1"),
    # Slashes and pages.
    *_differ("slash", 404, 307, "/v1/calc/list/", "/v1/calc/N/", "/v1/calc/N/status/", "/v1/engine_version/"),
    *_differ("slash", 301, 307, "/v1/valid"),
    *_differ("pages", 301, 307, "/"),
    *_differ("pages", 200, 307, "/engine", "/engine/", "/engine/N/outputs"),
    *_differ("license", 200, 200, "/engine/license"),
]  # fmt: skip


def table() -> str:
    """The differences as the manual has them."""
    lines = ["| | there | here | why |", "|---|---|---|---|"]
    lines += [f"| {each.what} | {each.there} | {each.here} | {each.why} |" for each in DIFFERENCES.values()]
    return "\n".join([BEGIN, *lines, END])


def written_table() -> str:
    """What the manual has."""
    text = MANUAL.read_text(encoding="utf-8")
    return text[text.index(BEGIN) : text.index(END) + len(END)]


if __name__ == "__main__":
    MANUAL.write_text(MANUAL.read_text(encoding="utf-8").replace(written_table(), table()), encoding="utf-8")
