"""Files that programs send by their hashes: resumed, checked, bounded, nobody else's. There is no agent."""

from __future__ import annotations

import dataclasses
import getpass
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.services.web.uploads import store as stores
from quakegrid.services.web.uploads.inputs import DAY_S, Inputs
from quakegrid.services.web.uploads.manifests import WantedFile
from quakegrid.services.web.uploads.store import PIECE_BYTES, FileStore
from quakegrid.settings.config import Settings
from tests.integration.web.conftest import Answer, Web, make_settings
from tests.support.dbservers import serving
from tests.support.processes import Service

JOB = b"[general]\ndescription = small\ncalculation_mode = classical\n"
MISSING = "/v1/inputs/missing"
QUOTA_BYTES = 5 * PIECE_BYTES


def sha256_of(content: bytes) -> str:
    """The hash of a content."""
    return hashlib.sha256(content).hexdigest()


def wanted_of(content: bytes) -> WantedFile:
    """A content as it is announced."""
    return WantedFile(sha256_of(content), len(content))


def ask_missing(web: Web, files: Mapping[str, bytes]) -> Answer:
    """Ask which of these files are missing."""
    listed = [{"name": name, "size": len(each), "sha256": sha256_of(each)} for name, each in files.items()]
    return web.post(MISSING, json.dumps({"files": listed}).encode(), Content_Type="application/json")


def put(web: Web, content: bytes, offset: int, piece: bytes, sha256: str = "") -> Answer:
    """Send a piece of a content."""
    path = f"/v1/inputs/{sha256 or sha256_of(content)}?offset={offset}&size={len(content)}"
    return web.ask("PUT", path, piece)


def send(web: Web, content: bytes) -> None:
    """Send a whole content."""
    for offset in range(0, max(len(content), 1), PIECE_BYTES):
        assert put(web, content, offset, content[offset : offset + PIECE_BYTES]).status == 200


def run(web: Web, files: Mapping[str, str], **fields: Any) -> Answer:
    """Run files that have come, by a manifest."""
    document = {"files": files, "job_ini": "job.ini", "request_id": "a-request-1", **fields}
    return web.post("/v1/calc/run", json.dumps(document).encode(), Content_Type="application/json")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A web service for all tests here, each of which sends files of its own; there is no broker."""
    settings = make_settings(tmp_path_factory.mktemp("web"))
    service = Service(settings, "web")
    with serving(settings):
        try:
            service.start()
            yield Web(settings, service)
        finally:
            service.close()


@pytest.fixture
def store(settings: Settings) -> FileStore:
    """A store of its own, with room for five pieces a person."""
    return FileStore(Inputs(settings, "root"), QUOTA_BYTES)


def fill(store: FileStore, owner: str, content: bytes) -> None:
    """Send a content to a store."""
    for offset in range(0, max(len(content), 1), PIECE_BYTES):
        store.add(owner, wanted_of(content), offset, content[offset : offset + PIECE_BYTES])


def test_only_what_is_missing_is_asked_for(web: Web) -> None:
    """A file that came is known by its hash, whatever its name; the same content is asked for once."""
    large = os.urandom(PIECE_BYTES + 10)
    send(web, JOB)

    found = ask_missing(web, {"job.ini": JOB, "a.xml": large, "sub/b.xml": large, "empty.csv": b""}).json

    assert found == {
        "missing": [
            {"sha256": sha256_of(large), "received_bytes": 0},
            {"sha256": sha256_of(b""), "received_bytes": 0},
        ],
        "piece_bytes": PIECE_BYTES,
    }
    send(web, b"")
    send(web, large)
    assert ask_missing(web, {"job.ini": JOB, "a.xml": large, "empty.csv": b""}).json["missing"] == []


def test_file_goes_on_where_it_was(web: Web) -> None:
    """A piece twice, or one too early, changes nothing: the answer says where to go on."""
    content = os.urandom(2 * PIECE_BYTES + 5)
    first, second, last = content[:PIECE_BYTES], content[PIECE_BYTES : 2 * PIECE_BYTES], content[-5:]

    answers = [
        put(web, content, 0, first),
        put(web, content, 0, first),
        put(web, content, 2 * PIECE_BYTES, last),
        put(web, content, PIECE_BYTES, second),
    ]

    assert [each.json["received_bytes"] for each in answers] == [PIECE_BYTES] * 3 + [2 * PIECE_BYTES]
    begun = ask_missing(web, {"a.xml": content}).json["missing"]
    assert begun == [{"sha256": sha256_of(content), "received_bytes": 2 * PIECE_BYTES}]
    assert put(web, content, 2 * PIECE_BYTES, last).json["received_bytes"] == len(content)
    assert ask_missing(web, {"a.xml": content}).json["missing"] == []


def test_file_with_another_hash_is_dropped(web: Web) -> None:
    """Nothing is kept of it; the right one may come then."""
    content, other = b"what was announced", b"something else 123"

    refused = put(web, content, 0, other)

    assert refused.status == 400
    assert "is not the file with the hash" in refused.json["error"]
    begun = ask_missing(web, {"a.xml": content}).json["missing"]
    assert begun == [{"sha256": sha256_of(content), "received_bytes": 0}]
    assert put(web, content, 0, content).json["received_bytes"] == len(content)


SENSELESS_PIECES = [
    (f"/v1/inputs/{'A' * 64}?offset=0&size=1", b"1", "no SHA-256"),
    (f"/v1/inputs/..%2f{'a' * 61}?offset=0&size=1", b"1", ""),
    (f"/v1/inputs/{'a' * 64}?offset=0&size=-1", b"1", "numbers of bytes"),
    (f"/v1/inputs/{'a' * 64}?offset=0", b"1", "numbers of bytes"),
    (f"/v1/inputs/{'a' * 64}?offset=0&size=1", b"12", "ends where its file ends"),
    (f"/v1/inputs/{'a' * 64}?offset=2&size=1", b"", "ends where its file ends"),
    (f"/v1/inputs/{'a' * 64}?offset=0&size={1 << 40}", b"1", "max_upload"),
]


def test_piece_that_makes_no_sense_is_refused(web: Web) -> None:
    """In words, before anything is written; one that is too large by its announced length."""
    before = sorted(web_root(web).rglob("*"))
    for path, body, words in SENSELESS_PIECES:
        answer = web.ask("PUT", path, body)
        assert answer.status in (400, 404), path
        assert words in answer.body.decode(), path
    content = bytes(2 * PIECE_BYTES)
    assert put(web, content, 0, content).status == 413
    assert sorted(web_root(web).rglob("*")) == before


def web_root(web: Web) -> Path:
    """Where the service keeps files."""
    return FileStore(Inputs(web.settings, getpass.getuser()), 0).root


SENSELESS_LISTS: list[tuple[list[object], str]] = [
    ([], "1 to 10000 files"),
    ([{"name": "../a", "size": 1, "sha256": "a" * 64}], "leads out"),
    ([{"name": "/a", "size": 1, "sha256": "a" * 64}], "absolute"),
    ([{"name": "a", "size": True, "sha256": "a" * 64}], "number of bytes"),
    ([{"name": "a", "size": 1, "sha256": "../../etc/passwd"}], "no SHA-256"),
    ([{"name": "a", "size": 1}], "`sha256` is a text"),
    ([1], "each of `files`"),
    ([{"name": "a", "size": 1 << 50, "sha256": "a" * 64}], "max_upload"),
]


def test_list_that_makes_no_sense_is_refused(web: Web) -> None:
    """In words."""
    for files, words in SENSELESS_LISTS:
        answer = web.post(MISSING, json.dumps({"files": files}).encode())
        assert (answer.status, words in answer.json["error"]) == (400, True), files


def test_manifest_is_judged_as_a_form_is(web: Web) -> None:
    """Names, ways out of the folder, other people's calculations, parameters that name files."""
    evil = b"[general]\nsite_model_file = ../../../etc/passwd\n"
    for content in (JOB, evil, b"not a zip"):
        send(web, content)
    job = sha256_of(JOB)

    answers = [
        run(web, {"job.ini": sha256_of(evil)}),
        run(web, {"job.ini": job, "../x.xml": job}),
        run(web, {"x.xml": job}),
        run(web, {"job.ini": job}, job_owner="somebody"),
        run(web, {"job.ini": job}, params={"shakemap_uri": "{'fname': '/etc/passwd'}"}),
        run(web, {"job.ini": job}, params={"a b": "1"}),
        run(web, {"job.ini": job}, hazard_job_id="x"),
        run(web, {"job.ini": job}, request_id="!"),
        run(web, {"job.ini": job}, weight=1e9),
        run(web, {"job.ini": job}, notify=["file:///etc/passwd"]),
        run(web, {"job.ini": "no hash"}),
        run(web, {"job.zip": sha256_of(b"not a zip")}, job_ini="job.zip"),
        web.post("/v1/calc/run", b"{", Content_Type="application/json"),
    ]

    assert [each.status for each in answers] == [400, 400, 400, 403, *[400] * 9]
    words = [each.json["traceback"][0] for each in answers]
    assert "leads out of the upload" in words[0]
    assert "absolute path" in words[4]
    assert "cannot be unpacked" in words[11]
    folders = Inputs(web.settings, getpass.getuser()).root
    assert not list(folders.iterdir()) if folders.exists() else True


def test_manifest_with_a_file_that_is_not_here_is_told_so(web: Web) -> None:
    """The program asks again which are missing: they may have been removed meanwhile."""
    late = JOB + b"# sent later\n"
    answer = run(web, {"job.ini": sha256_of(late)})

    assert (answer.status, answer.json["is_missing"]) == (409, True)
    send(web, late)
    assert run(web, {"job.ini": sha256_of(late)}).status == 503  # there is no agent


# --- the store by itself


def test_nobody_learns_of_or_uses_the_files_of_others(store: FileStore, tmp_path: Path) -> None:
    """For another person the same hash is a file that has not come."""
    fill(store, "anna", JOB)

    assert store.missing("anna", [wanted_of(JOB)]) == []
    assert [each.received_bytes for each in store.missing("bert", [wanted_of(JOB)])] == [0]
    with pytest.raises(errors.NotFoundError, match="has come from you"):
        store.take("bert", sha256_of(JOB), tmp_path / "stolen")
    # Names of people cannot lead into each other's folders either.
    for name in ("../of-anna", "of-anna", ".", "..", "an/na"):
        assert store.missing(name, [wanted_of(JOB)]) != []
    assert {path.parent for path in store.root.iterdir()} == {store.root}


def test_file_that_changed_on_disk_is_not_used(store: FileStore, tmp_path: Path) -> None:
    """It is hashed each time a calculation takes it, dropped, and asked for again."""
    fill(store, "anna", JOB)
    store.take("anna", sha256_of(JOB), tmp_path / "good")
    assert (tmp_path / "good").read_bytes() == JOB
    (path,) = store.root.rglob(sha256_of(JOB))
    path.chmod(0o600)
    path.write_bytes(JOB.replace(b"small", b"other"))

    with pytest.raises(errors.NotFoundError, match="damaged"):
        store.take("anna", sha256_of(JOB), tmp_path / "bad")

    assert not (tmp_path / "bad").exists()
    assert store.missing("anna", [wanted_of(JOB)]) != []


def test_quota_holds_for_whole_and_begun_files(store: FileStore, tmp_path: Path) -> None:
    """It is known before anything is sent, and holds for who sends without asking."""
    contents = [os.urandom(2 * PIECE_BYTES) for _ in range(3)]
    fill(store, "anna", contents[0])
    store.add("anna", wanted_of(contents[1]), 0, contents[1][:PIECE_BYTES])

    with pytest.raises(errors.UsageError, match="inputs_quota"):
        store.missing("anna", map(wanted_of, contents))
    fill(store, "anna", contents[1])
    with pytest.raises(errors.UsageError, match="inputs_quota"):
        fill(store, "anna", contents[2])
    assert store.count_bytes("anna") <= QUOTA_BYTES
    # What another has does not count, and what lies in a calculation's folder counts there.
    fill(store, "bert", contents[2])
    before = store.count_bytes("anna")
    store.take("anna", sha256_of(contents[0]), tmp_path / "taken")
    assert store.count_bytes("anna") == before - 2 * PIECE_BYTES


def test_quota_counts_calculations_at_each_piece(settings: Settings) -> None:
    """Their inputs are other files of the same person, and leave less room for a file that has begun."""
    inputs = Inputs(settings, "root")
    store = FileStore(inputs, QUOTA_BYTES)
    folder = inputs.new_folder()
    (folder / "model.xml").write_bytes(bytes(3 * PIECE_BYTES))
    inputs.keep(folder, "anna", 1)
    content = os.urandom(3 * PIECE_BYTES)
    store.add("anna", wanted_of(content), 0, content[:PIECE_BYTES])
    store.add("anna", wanted_of(content), PIECE_BYTES, content[PIECE_BYTES : 2 * PIECE_BYTES])

    with pytest.raises(errors.UsageError, match="inputs_quota"):
        store.add("anna", wanted_of(content), 2 * PIECE_BYTES, content[2 * PIECE_BYTES :])


def test_number_of_files_is_bounded(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files take room of another kind."""
    monkeypatch.setattr(stores, "MOST_FILES", 3)
    for number in range(3):
        fill(store, "anna", b"%d" % number)

    with pytest.raises(errors.UsageError, match="may have 3"):
        fill(store, "anna", b"one more")


def test_full_disk_is_told_before_and_while_files_come(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had come stays, and the sender goes on when there is space again."""
    content = os.urandom(2 * PIECE_BYTES)
    store.add("anna", wanted_of(content), 0, content[:PIECE_BYTES])
    real = shutil.disk_usage
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1 << 20))
        with pytest.raises(errors.UsageError, match="no space for 1 MB"):
            store.missing("anna", [wanted_of(content)])
        with pytest.raises(errors.UsageError, match="no space"):
            store.add("anna", wanted_of(content), PIECE_BYTES, content[PIECE_BYTES:])

    (begun,) = store.missing("anna", [wanted_of(content)])

    assert begun.received_bytes == PIECE_BYTES
    assert store.add("anna", wanted_of(content), PIECE_BYTES, content[PIECE_BYTES:]) == len(content)


def test_same_file_from_two_programs_is_whole(store: FileStore) -> None:
    """Two of the same person at once: each goes on from where the file is."""
    content = os.urandom(3 * PIECE_BYTES + 7)

    def send_all() -> None:
        offset = 0
        while offset < len(content):
            offset = store.add("anna", wanted_of(content), offset, content[offset : offset + PIECE_BYTES])

    threads = [threading.Thread(target=send_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (path,) = store.root.rglob("*" + sha256_of(content)[1:])
    assert path.read_bytes() == content


def test_files_go_when_their_time_is_over(store: FileStore) -> None:
    """Whole ones after some days without use, pieces after one; a use begins the time anew."""
    old, used, begun = b"old", b"used", b"begun, and more"
    for content in (old, used):
        fill(store, "anna", content)
    store.add("anna", wanted_of(begun), 0, begun[:5])
    past_s = time.time() - 3 * DAY_S
    for path in store.root.rglob("*"):
        os.utime(path, (past_s, past_s))
    assert store.missing("anna", [wanted_of(used)]) == []

    assert store.sweep(0) == 1  # for ever, but for pieces
    assert store.sweep(7) == 0
    assert store.sweep(2) == 1

    assert [path.name for path in store.root.rglob("*") if path.is_file()] == [sha256_of(used)]


def test_longer_file_of_the_same_hash_begins_anew(store: FileStore) -> None:
    """Its announced length was wrong, or a service was killed before it looked at the hash."""
    content = b"0123456789"
    store.add("anna", dataclasses.replace(wanted_of(content), size_bytes=20), 0, content)

    (begun,) = store.missing("anna", [wanted_of(content)])

    assert begun.received_bytes == 0
    assert store.add("anna", wanted_of(content), 0, content) == 10
