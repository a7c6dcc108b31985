"""Why a connection failed, from gRPC's words: what is known, and what to check, the likeliest first.

gRPC's words name descriptors and routines of its libraries, and no causes. A row of the table lists only
what leads to its words. `tests/integration/broker/test_link_failures.py` makes most of these failures.
"""

from __future__ import annotations

from dataclasses import dataclass

from quakegrid.api.v1 import nodes_pb2

_AUTHKEY = "[dbserver] authkey of both machines"
_JOIN = "`agentctl join --token TOKEN`"
# What to check of the node's proof, by how the node has said that it proves what it is.
_PROOF_CHECKS = {
    nodes_pb2.NODE_PROOF_KIND_AUTHKEY: _AUTHKEY,
    nodes_pb2.NODE_PROOF_KIND_CERTIFICATE: f"whether it must join again (there: {_JOIN})",
}
_ANY_PROOF_CHECK = f"{_AUTHKEY} (if it joined by token, join again there: {_JOIN})"
# In a row: any of these.
_PROOF = "its proof"


@dataclass(frozen=True, slots=True)
class _Cause:
    """What words of gRPC mean.

    Args:
        signs: parts of the words; all of them are there.
        known: what is known.
        checks: what to check, the likeliest cause first; `_PROOF` for what depends on the kind of node.
    """

    signs: tuple[str, ...]
    known: str
    checks: tuple[str, ...]

    def told(self, proof_kind: nodes_pb2.NodeProofKind.ValueType) -> str:
        """In words, for a node of a kind."""
        proof_check = _PROOF_CHECKS.get(proof_kind, _ANY_PROOF_CHECK)
        checks = [proof_check if check == _PROOF else check for check in self.checks]
        return f"{self.known}: check {', then '.join(checks)}" if checks else self.known


_NO_TRY = "failed to connect"
# The first row that fits is taken, so the special ones come first.
_CAUSES = (
    _Cause(
        ("Hostname Verification",),
        "another node's agent answers there",
        ("its address", "whether two machines have one name"),
    ),
    _Cause(
        ("certificate has expired",),
        "its certificate has ended",
        ("why its agent did not renew it (the agent's log)", "the clocks of both machines"),
    ),
    _Cause(
        ("certificate is not yet valid",),
        "its certificate does not count yet",
        ("the clocks of both machines",),
    ),
    _Cause(
        ("CERTIFICATE_VERIFY_FAILED",),
        "its certificate is not of this cluster",
        (_PROOF, "its address"),
    ),
    _Cause(
        ("WRONG_VERSION_NUMBER",),
        "another program answers there",
        ("its port", "its address"),
    ),
    _Cause(
        ("handshake failed",),
        "no encrypted connection could be made",
        ("the agent's log", _PROOF, "its address and port"),
    ),
    _Cause(
        ("Handshake read failed", "Endpoint closing"),
        "it takes connections and does not answer",
        ("whether its agent hangs", "its port"),
    ),
    _Cause(
        ("Handshake read failed",),
        "it ends each connection at once",
        ("whether its agent is about to stop", "a proxy or firewall between", "its port"),
    ),
    _Cause(
        (_NO_TRY, "Socket closed"),
        "it ends each connection at once",
        (_PROOF, "their clocks", "whether its agent is about to stop"),
    ),
    _Cause(
        ("Connection refused",),
        "nothing listens there",
        ("whether its agent runs", "its address and port"),
    ),
    _Cause(
        ("No route to host",),
        "no way there",
        ("whether the machine is up", "its address", "a firewall between"),
    ),
    _Cause(
        ("Network is unreachable",),
        "no way there",
        ("the network of this machine", "its address"),
    ),
    _Cause(
        ("resolution failed",),
        "its name is not known here",
        ("the name server or /etc/hosts", "the name"),
    ),
    _Cause(
        ("errors resolving",),
        "its name is not known here",
        ("the name server or /etc/hosts", "the name"),
    ),
    _Cause(("Cancelling all calls",), "its agent is about to stop", ()),
    _Cause(
        ("ping timeout",),
        "it stopped answering",
        ("whether the machine is up", "whether its agent hangs", "the network"),
    ),
    _Cause(("reset by peer",), "the connection broke", ("whether its agent runs", "the network")),
    _Cause(("Socket closed",), "the connection broke", ("whether its agent runs", "the network")),
    *(
        _Cause((sign,), "no answer", ("whether the machine is up", "a firewall between", "its address"))
        for sign in ("Timeout", "timeout", "timed out", "FD Shutdown")
    ),
)


def cause_of(details: str, proof_kind: nodes_pb2.NodeProofKind.ValueType) -> str:
    """Why a call did not reach an agent: what is known, and what to check.

    Args:
        details: of the failure; a service's own words stay as they are.
        proof_kind: how the node has said that it proves what it is; unspecified if it never has.
    """
    for cause in _CAUSES:
        if all(sign in details for sign in cause.signs):
            return cause.told(proof_kind)
    return details.partition("\n")[0]
