"""The roles of people, as the contract numbers them."""

from __future__ import annotations

from quakegrid.access.principals import PEOPLE, PrincipalRole
from quakegrid.api.v1 import people_pb2

NUMBERS = {role.value: people_pb2.PersonRole.Value(f"PERSON_ROLE_{role.name}") for role in PEOPLE}
ROLES = {number: PrincipalRole(role) for role, number in NUMBERS.items()}
