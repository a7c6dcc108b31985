"""Tables that people and calculations may not read by SQL: other calls show what each may see."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.errors import NotAllowedError
from quakegrid.services.dbserver.store import sql_templates

# The name of a table is in each SQL text that reads it; the database has no views.
_PRIVATE = re.compile(r"quakegrid_(audit|credential|node|request)", re.ASCII | re.IGNORECASE)
# Hashes of passwords, ours and Django's, and what belongs to logins: nobody needs them.
_SECRET = re.compile(r"quakegrid_(password|web_token)|auth_user|django_session", re.ASCII | re.IGNORECASE)


def check(principal: Principal, sql: str) -> None:
    """Refuse SQL that reads who did what, or who has which credential.

    Args:
        principal: who asks; operators, admins and services may, but for the tables of logins.
        sql: as SQLite gets it.
    Raises:
        NotAllowedError: it names such a table.
    """
    if principal.role is not PrincipalRole.SERVICE and (found := _SECRET.search(sql)):
        raise NotAllowedError(
            f"you are {principal} and may not read {found[0].lower()} by SQL: that is for the dbserver alone"
        )
    if principal.is_staff or principal.role is PrincipalRole.SERVICE:
        return
    if found := _PRIVATE.search(sql):
        raise NotAllowedError(
            f"you are {principal} and may not read {found[0].lower()} by SQL: that is for operators and "
            "admins; `quakegrid audit` shows what concerns you"
        )


def check_template(principal: Principal, template: str, args: Sequence[Any]) -> None:
    """As `check`, for a template of upstream's, into which arguments may put names."""
    sql, _ = sql_templates.expand(template, *args)
    check(principal, sql)
