"""As whom a driver runs that this service asks for. The agent decides as which account that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quakegrid.services.web import callers

# What tells a driver's processes who somebody is.
NAME_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")
# What a driver of a person gets of the environment of this service, beside `LC_*`.
_KEPT = ("LANG", "LANGUAGE", "PATH", "TZ", "PYTHONPATH")


@dataclass(frozen=True, slots=True)
class Whose:
    """For whom a driver works.

    Args:
        person: whose account it is to run as; empty for what the agent gives to this service's own account.
        asker: who asks, for the audit log; empty for this service.
    """

    person: str = ""
    asker: str = ""

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment of the driver.

        Args:
            environ: that of this service. A person's driver gets nothing of it that could be a secret.
        """
        names = dict.fromkeys(NAME_VARIABLES, self.asker) if self.asker else {}
        if not self.person:
            return {
                name: value for name, value in environ.items() if not name.startswith("OQ_DISTRIBUTE")
            } | names
        kept = {name: environ[name] for name in environ if name in _KEPT or name.startswith("LC_")}
        return kept | names


# For what concerns nobody's calculation.
SERVICE = Whose()


def of(owner: str, asker: str) -> Whose:
    """For whom a driver works that touches what belongs to somebody.

    Nobody has the name of root or of this service's account without being trusted (`callers.may_have_name`).

    Args:
        owner: name of the person.
        asker: who asks.
    """
    return Whose("" if owner in (callers.ROOT, callers.own_name()) else owner, asker)
