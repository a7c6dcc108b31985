"""Who asks: a person, with a role, and how that is known.

On loopback the kernel knows which user owns the other end of a connection. So nobody needs a password on the
machine itself or through ssh, and nobody can claim to be somebody else. The kernel is asked over netlink
(sock_diag(7)), which takes some microseconds. From elsewhere people show a cookie or a token.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import pwd
import socket
import stat
import struct
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from quakegrid.access.principals import PrincipalRole

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 1
_ANY_STATE = 0xFFFFFFFF
_ANY_COOKIE = b"\xff" * 8
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_QUERY = struct.Struct(
    "=BBBxI"
)  # inet_diag_req_v2 before its socket id: family, protocol, extensions, states
_PORTS = struct.Struct("!HH")
# inet_diag_msg: family, state, timer, retransmissions, socket id, then expires, rqueue, wqueue, uid, inode.
_OWNER = struct.Struct("=II")
_OWNER_AT = _HEADER.size + 4 + 48 + 3 * 4
_ANSWER_BYTES = _OWNER_AT + _OWNER.size
_MOST_BYTES = 4096
# How long an account that was looked up is taken for what it was: a directory far away may answer slowly.
_ACCOUNT_S = 60
_MOST_ACCOUNTS = 1024
ROOT = "root"
_STAFF = frozenset({PrincipalRole.OPERATOR, PrincipalRole.ADMIN})


class Way(StrEnum):
    """How somebody has proved who they are."""

    KERNEL = "kernel"
    COOKIE = "cookie"
    TOKEN = "token"  # noqa: S105  the word
    # A proxy that the settings name says so.
    PROXY = "proxy"
    # Not at all; where the settings let everybody in.
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Args:
        user_id: number of the account of this machine that has opened the connection; None if the kernel
            did not say who asks.
        name: of the person: calculations of this name are theirs.
        role: what the person may do: user, operator or admin.
        way: how it is known who asks.
    """

    user_id: int | None
    name: str
    role: PrincipalRole = PrincipalRole.USER
    way: Way = Way.KERNEL

    @property
    def is_staff(self) -> bool:
        """Whether it may do to the calculations of others what their owners may."""
        return self.role in _STAFF

    def __str__(self) -> str:
        """For people, as in "you are ..."."""
        return self.name if self.way is Way.KERNEL else f"{self.name} ({self.role})"


def of_account(user_id: int, name: str) -> Caller:
    """Who asks as an account of this machine: whoever has the cluster's own, or is root, looks after it."""
    is_owner = user_id in (0, os.geteuid())
    return Caller(user_id, name, PrincipalRole.ADMIN if is_owner else PrincipalRole.USER)


def may_have_name(caller: Caller) -> bool:
    """Whether somebody may be called so.

    The calculations of root and of the services' account run as the account of the services, which holds the
    cluster's secret. So whoever comes by one of these names has it from the kernel, or is an admin, who may
    have that secret anyway.
    """
    is_trusted = caller.way is Way.KERNEL or caller.role is PrincipalRole.ADMIN
    return is_trusted or caller.name not in (ROOT, own_name())


def own_name() -> str:
    """The name of the account of this service."""
    try:
        return _account(os.geteuid()).pw_name
    except KeyError:
        return ""


def _account(user_id: int) -> pwd.struct_passwd:
    """An account of this machine; each request asks for it.

    Raises:
        KeyError: there is none.
    """
    return _account_at(user_id, int(time.monotonic() // _ACCOUNT_S))


@functools.lru_cache(_MOST_ACCOUNTS)
def _account_at(user_id: int, _when: int) -> pwd.struct_passwd:
    return pwd.getpwuid(user_id)


def caller_of(peer: tuple[str, int], own: tuple[str, int]) -> Caller | None:
    """The user who opened a TCP connection from this machine; None if the kernel does not say.

    Args:
        peer: address and port of the other end.
        own: address and port of our end.
    """
    try:
        user_id = socket_owner(peer, own)
        name = None if user_id is None else _account(user_id).pw_name
    except (OSError, ValueError, KeyError):
        return None
    return None if user_id is None or name is None else of_account(user_id, name)


def socket_owner(end: tuple[str, int], other: tuple[str, int]) -> int | None:
    """The user id of the TCP socket of this machine with these ends.

    Returns:
        None if there is none, or none that a process has open: the kernel names root as the owner of those
        that were closed and still exist.
    Raises:
        OSError: the kernel cannot be asked.
        ValueError: an address is none.
    """
    addresses = [ipaddress.ip_address(address) for address in (end[0], other[0])]
    family = socket.AF_INET if all(address.version == 4 for address in addresses) else socket.AF_INET6
    packed = b"".join(address.packed.ljust(16, b"\0") for address in addresses)
    query = _QUERY.pack(family, socket.IPPROTO_TCP, 0, _ANY_STATE)
    body = query + _PORTS.pack(end[1], other[1]) + packed + bytes(4) + _ANY_COOKIE
    header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        kernel.send(header + body)
        answer = kernel.recv(_MOST_BYTES)
    _, kind, *_ = _HEADER.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY or len(answer) < _ANSWER_BYTES:
        return None
    user_id, inode = _OWNER.unpack_from(answer, _OWNER_AT)
    return int(user_id) if inode else None


def may_ask(caller: Caller, door: Path | None = None) -> bool:
    """Whether this service is for a user.

    It is for the one that it runs as, whose cluster it is, and for root. Where the agent lets the members of
    a group start calculations, it is for them, too.

    Args:
        caller: who asks.
        door: the agent's socket, whose mode says whether it is open to its group.
    """
    return caller.user_id in (0, os.geteuid()) or (door is not None and _is_open_to(caller, door))


def _is_open_to(caller: Caller, door: Path) -> bool:
    if caller.user_id is None:
        return False
    try:
        found = door.stat()
        if not found.st_mode & stat.S_IWGRP:
            return False
        return found.st_gid in os.getgrouplist(caller.name, _account(caller.user_id).pw_gid)
    except (OSError, KeyError):
        return False
