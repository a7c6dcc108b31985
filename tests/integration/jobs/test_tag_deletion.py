"""A tag that many jobs have is deleted in steps, so that other writes need not wait for all of it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from quakegrid.api.v1 import tags_pb2
from quakegrid.services.dbserver.jobs import tags as job_tags
from quakegrid.services.dbserver.rpc import tags as tag_rpc
from quakegrid.services.dbserver.store import schema
from quakegrid.services.dbserver.store.database import Readers, SqlSession
from quakegrid.services.dbserver.store.writer import Work, Writer
from quakegrid.settings.config import Settings

JOB_COUNT = 25


def test_tag_of_many_jobs_goes_in_transactions_of_bounded_size(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jobs keep their other tags."""
    monkeypatch.setattr(job_tags, "JOBS_AT_ONCE", 10)
    path = settings.database
    path.parent.mkdir(parents=True, exist_ok=True)
    schema.prepare_database(path)
    readers, writer = Readers(path), Writer(path, on_commit=lambda *_: None, on_death=lambda: None)
    sizes: list[int] = []
    run = writer.run

    def counted(work: Work[Any], user_name: str = "") -> Any:
        before = readers.session().query("SELECT count(*) FROM job_tag").rows[0][0]
        found = run(work, user_name)
        sizes.append(before - readers.session().query("SELECT count(*) FROM job_tag").rows[0][0])
        return found

    def fill(session: SqlSession) -> None:
        for name in ("gone", "kept"):
            tag_id = job_tags.find_or_create(session, name)
            for job_id in range(1, JOB_COUNT + 1):
                if name == "gone":
                    insert = "INSERT INTO job (id, description, user_name, calculation_mode, ds_calc_dir) "
                    session.execute(insert + "VALUES (?x, 'd', 'ada', 'c', '/d')", job_id)
                session.execute("INSERT INTO job_tag (job_id, tag_id) VALUES (?x, ?x)", job_id, tag_id)

    try:
        writer.run(fill)
        monkeypatch.setattr(writer, "run", counted)
        servicer = tag_rpc.TagsServicer(readers, writer)
        context: grpc.ServicerContext = None  # type: ignore[assignment]
        for _ in range(2):  # the second time there is none
            servicer.DeleteTag(tags_pb2.DeleteTagRequest(name="gone"), context)
        left = readers.session().query("SELECT name FROM tag").rows
    finally:
        writer.close(10.0)
        readers.close()

    assert sizes == [10, 10, 5, 0, 0, 0, 0]
    assert [tuple(row) for row in left] == [("kept",)]
