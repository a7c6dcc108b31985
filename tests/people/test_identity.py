"""As whom workers run, and what they have."""

from __future__ import annotations

import grpc
import pytest

from tests.people.accounts import ANNA, BEN, SERVICE, STRANGER, USERS_GID, WORKER, Account
from tests.people.workers import WorkerOrders

WHO = "answer |= {'uids': os.getresuid(), 'gids': os.getresgid(), 'groups': sorted(os.getgroups())}"
STATUS = """
answer |= dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
answer["environ"] = {name: os.environ.get(name) for name in ("HOME", "USER", "LOGNAME")}
"""
BECOME = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
answer["changed"] = []
for uid in (0, 6101, 6103):
    for call in (lambda: os.setuid(uid), lambda: os.setresuid(-1, uid, -1), lambda: os.setgroups([uid]),
                 lambda: os.setresgid(uid, uid, uid)):
        try:
            call()
            answer["changed"].append(uid)
        except OSError:
            pass
"""


def test_worker_has_the_ids_and_groups_of_its_person(workers: WorkerOrders) -> None:
    """Real, effective and saved ones, so that there is no way back."""
    answer = workers.run(ANNA, WHO)

    assert answer == {"uids": [ANNA.uid] * 3, "gids": [ANNA.uid] * 3, "groups": [ANNA.uid, USERS_GID]}


def test_worker_has_no_rights_beyond_its_person(workers: WorkerOrders) -> None:
    """No capability, none to be had by a set-user-id program, and the environment of its account."""
    answer = workers.run(ANNA, STATUS)

    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(answer[kind], 16) == 0, kind
    assert answer["NoNewPrivs"] == "1"
    assert answer["environ"] == {"HOME": str(ANNA.home), "USER": ANNA.name, "LOGNAME": ANNA.name}


def test_worker_cannot_become_anybody(workers: WorkerOrders) -> None:
    """Neither root nor the services' account nor another person."""
    assert workers.run(ANNA, BECOME)["changed"] == []


def test_worker_has_no_descriptor_of_the_template(workers: WorkerOrders) -> None:
    """Nothing but 0, 1 and 2: not the control socket, not the pipe that wakes the template."""
    code = "answer['fds'] = [int(fd) for fd in os.listdir('/proc/self/fd')]"

    assert sorted(workers.run(ANNA, code)["fds"])[:3] == [0, 1, 2]
    assert len(workers.run(ANNA, code)["fds"]) == 4  # the last one lists them


@pytest.mark.parametrize(
    "person",
    [
        pytest.param(Account(ANNA.name, BEN.uid), id="same name, another number"),
        pytest.param(Account("qg-elsewhere", 7001), id="account of another node"),
        pytest.param(ANNA.name, id="number unknown"),
        pytest.param("", id="nobody's"),
        pytest.param(Account("root", 0), id="root"),
        pytest.param(SERVICE, id="the services"),
        pytest.param("x" * 200, id="no name"),
        pytest.param("a:b\nroot", id="no name at all"),
    ],
)
def test_whoever_has_no_account_here_runs_as_the_account_for_all(
    workers: WorkerOrders, person: Account | str
) -> None:
    """Never as somebody else, as root or as a service."""
    assert workers.run(person, WHO)["uids"] == [WORKER.uid] * 3


def test_two_people_at_once_stay_apart(workers: WorkerOrders) -> None:
    """A worker of each, side by side."""
    with workers.worker(ANNA, WHO) as anna, workers.worker(BEN, WHO) as ben:
        assert (anna.answer["uids"][0], ben.answer["uids"][0]) == (ANNA.uid, BEN.uid)


def test_membership_is_for_the_socket_only(workers: WorkerOrders) -> None:
    """Workers come from the broker: a person of another node need not be a member here."""
    assert workers.run(STRANGER, WHO)["uids"] == [STRANGER.uid] * 3


def test_request_with_an_impossible_number_is_refused(workers: WorkerOrders) -> None:
    """A name of that length is no account's."""
    with pytest.raises(grpc.RpcError, match="too long"):
        workers.start("x" * 300)
