"""Hosts: what their names and addresses mean, without a look-up, and how many cores are ours. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class HostCores:
    """One node of the cluster and how many of its cores the cluster may use (-1: all)."""

    host: str
    cores: int


def is_loopback(host: str) -> bool:
    """Whether a host is this machine for this machine only: an address of the loopback, or `localhost`."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback  # `%` begins an interface
    except ValueError:
        return host == "localhost"
