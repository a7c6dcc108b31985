"""Uploads have few places, of which one person has not all."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from quakegrid import errors
from quakegrid.services.web.api.running import OWN_UPLOAD_COUNT, UPLOAD_COUNT, Desk
from quakegrid.services.web.api.sent_files import MOST_OWN_PIECES, Turnstile, missing
from quakegrid.services.web.callers import Caller
from quakegrid.services.web.uploads.inputs import Inputs
from quakegrid.settings import config

ANNA, BEN = Caller(None, "anna"), Caller(None, "ben")


def test_slow_uploads_of_one_person_leave_a_place_for_others(tmp_path: Path) -> None:
    """And all are given back."""
    (tmp_path / "openquake.cfg").touch()
    environ = {"OQ_CONFIG_FILE": str(tmp_path / "openquake.cfg"), config.ONLY_CONFIG: "1"}
    settings = replace(config.load_settings(tmp_path, environ), shared_dir="")
    nobody = cast("Any", None)
    desk = Desk(settings, Inputs(settings, "service"), nobody, nobody)

    async def scene() -> None:
        for _ in range(2):
            async with AsyncExitStack() as held:
                for _ in range(OWN_UPLOAD_COUNT):
                    await held.enter_async_context(desk.folder(ANNA))
                with pytest.raises(errors.PeerUnreachableError, match=f"{OWN_UPLOAD_COUNT} of yours"):
                    await held.enter_async_context(desk.folder(ANNA))
                for _ in range(UPLOAD_COUNT - OWN_UPLOAD_COUNT):
                    await held.enter_async_context(desk.folder(BEN))
                with pytest.raises(errors.PeerUnreachableError, match="uploads are on their way"):
                    await held.enter_async_context(desk.folder(BEN))

    asyncio.run(scene())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_folder_that_another_user_has_made_is_not_taken(tmp_path: Path) -> None:
    """They could put other files in the place of those that were checked."""
    settings = config.load_settings(tmp_path, {config.ONLY_CONFIG: "", "HOME": str(tmp_path)})
    settings = replace(settings, shared_dir=str(tmp_path / "shared"))
    own = tmp_path / "shared" / "service"
    own.mkdir(parents=True)

    assert Inputs(settings, "service").root == own / "web-inputs"
    os.chown(own, 12345, -1)
    assert Inputs(settings, "service").root == settings.state_dir / "web-inputs"


def test_lists_of_files_are_looked_through_a_few_at_a_time() -> None:
    """Each takes memory and a thread; a list too many is refused before it is read."""
    turnstile = Turnstile()
    state = SimpleNamespace(turnstile=turnstile, settings=SimpleNamespace(web_upload_bytes=1))
    request = SimpleNamespace(app=SimpleNamespace(state=state), state=SimpleNamespace(caller=ANNA))

    async def scene() -> None:
        async with AsyncExitStack() as held:
            for _ in range(MOST_OWN_PIECES):
                await held.enter_async_context(turnstile.enter("anna"))
            with pytest.raises(errors.PeerUnreachableError):
                await missing(cast("Any", request))

    asyncio.run(scene())
