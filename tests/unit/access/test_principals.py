"""Names of principals, as certificates carry them."""

from __future__ import annotations

import pytest

from quakegrid.access import principals
from quakegrid.access.principals import Principal, PrincipalRole

ID = "0123456789abcdef" * 2
URI = f"spiffe://c7.quakegrid.internal/user/anna/{ID}"


@pytest.mark.parametrize("role", [role for role in PrincipalRole if role is not PrincipalRole.SERVICE])
def test_name_of_a_principal_is_read_as_it_was_written(role: PrincipalRole) -> None:
    """Of each role."""
    principal = Principal(role, "anna.b-2_x", ID)

    assert principals.from_names([principals.to_uri(principal, "c7")]) == principal


@pytest.mark.parametrize("account_id", [0, 1000, 4294967294])
def test_account_of_a_driver_is_read_as_it_was_written(account_id: int) -> None:
    """The number of its person's account, of which a node knows the rights."""
    driver = Principal(PrincipalRole.DRIVER, "anna", ID, account_id=account_id)

    uri = principals.to_uri(driver, "c7")

    assert uri == f"spiffe://c7.quakegrid.internal/driver/anna/{account_id}/{ID}"
    assert principals.from_names([uri]) == driver


def test_only_a_driver_has_an_account() -> None:
    """Who comes with a credential of their own has none that nodes could trust."""
    with pytest.raises(ValueError, match="cannot carry"):
        principals.to_uri(Principal(PrincipalRole.USER, "anna", ID, account_id=1000), "c7")


def test_service_is_known_by_the_name_that_clients_ask_for() -> None:
    """Certificates that services sign for themselves, also those of earlier releases."""
    assert principals.from_names([principals.PEER_NAME]) == principals.SERVICE


def test_uri_counts_beside_any_other_name() -> None:
    """A person does not become a service by a further name."""
    found = principals.from_names([principals.PEER_NAME, URI])

    assert found == Principal(PrincipalRole.USER, "anna", ID)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["another.host"],
        [URI, URI],
        [f"{URI}\n"],
        [f"{URI}/x"],
        ["https://c7.quakegrid.internal/user/anna"],
        [f"spiffe://c7.quakegrid.internal/service/anna/{ID}"],
        [f"spiffe://c7.quakegrid.internal/king/anna/{ID}"],
        [f"spiffe://c7.quakegrid.internal/user/../{ID}"],
        [f"spiffe://c7.quakegrid.internal/user/{'a' * 65}/{ID}"],
        ["spiffe://c7.quakegrid.internal/user/anna/12"],
        [f"spiffe://c7.quakegrid.internal/user/anna/1000/{ID}"],
        [f"spiffe://c7.quakegrid.internal/driver/anna/-1/{ID}"],
        [f"spiffe://c7.quakegrid.internal/driver/anna/007/{ID}"],
        [f"spiffe://c7.quakegrid.internal/driver/anna/1/2/{ID}"],
        ["spiffe://c7.quakegrid.internal/driver/anna/1000"],
    ],
)
def test_other_names_are_nobodys(names: list[str]) -> None:
    """What we have not written ourselves names no principal."""
    assert principals.from_names(names) is None


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a/b", "ä", "a\n", "a" * 65])
def test_name_that_a_certificate_cannot_carry_is_refused(name: str) -> None:
    """Before a certificate is made with it."""
    assert not principals.is_name(name)
    with pytest.raises(ValueError, match="cannot carry"):
        principals.to_uri(Principal(PrincipalRole.USER, name, ID), "c7")


def test_service_has_no_uri() -> None:
    """It is known by `PEER_NAME`."""
    with pytest.raises(ValueError, match="cannot carry"):
        principals.to_uri(principals.SERVICE, "c7")


@pytest.mark.parametrize(
    ("principal", "person", "words"),
    [
        (principals.SERVICE, "", "a service of the cluster"),
        (Principal(PrincipalRole.NODE, "n1"), "", "the node n1"),
        (Principal(PrincipalRole.USER, "anna"), "anna", "anna (user)"),
        (Principal(PrincipalRole.OPERATOR, "otto"), "otto", "otto (operator)"),
        (Principal(PrincipalRole.ADMIN, "ada"), "ada", "ada (admin)"),
        (Principal(PrincipalRole.DRIVER, "anna"), "anna", "a calculation of anna"),
        (Principal(PrincipalRole.WORKER, "7"), "", "a worker of session 7"),
        (Principal(PrincipalRole.TOKEN, "n1"), "", "the holder of a token for nodes"),
    ],
)
def test_principal_says_who_it_is(principal: Principal, person: str, words: str) -> None:
    """To people; and for whom it acts."""
    assert (principal.person, str(principal)) == (person, words)


def test_only_a_service_is_believed_when_it_says_who_asks() -> None:
    """A person cannot ask in the name of another one."""
    assert principals.SERVICE.asker("anna") == "anna"
    assert Principal(PrincipalRole.USER, "ben").asker("anna") == "ben"
    assert Principal(PrincipalRole.NODE, "n1").asker("anna") == ""


def test_operators_and_admins_are_staff() -> None:
    """They may do to the jobs of others what their owners may."""
    assert [role for role in PrincipalRole if Principal(role, "x").is_staff] == [
        PrincipalRole.OPERATOR,
        PrincipalRole.ADMIN,
    ]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("node7", "node7.node.quakegrid.internal"),
        ("Node7", "node7.node.quakegrid.internal"),
        ("a", "a.node.quakegrid.internal"),
        ("10-0-0-7", "10-0-0-7.node.quakegrid.internal"),
    ],
)
def test_plain_host_is_a_label_of_its_own(host: str, name: str) -> None:
    """People who look at a certificate read it."""
    assert principals.node_dns_name(host) == name


def test_no_two_hosts_have_one_name() -> None:
    """Also those that a label cannot be written as."""
    hosts = [
        "10.0.0.7",
        "10-0-0-7",
        "10.0-0.7",
        "node7.lab",
        "node7-lab",
        "x--a",
        "-a",
        "a-",
        "a_b",
        "a" * 63,
        "ä",
    ]
    made = [principals.node_dns_name(host) for host in hosts]

    assert len(set(made)) == len(hosts)
    for each in made:
        label, _, rest = each.partition(".")
        assert rest == "node.quakegrid.internal"
        assert len(label) <= 63
