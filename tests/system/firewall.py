"""The firewall of the manual on every node of a network, word for word, and what it had to drop."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.namespaces import NamespaceError, Network, tool

MANUAL = Path(__file__).parents[2] / "docs" / "how-to" / "firewall.md"
CHAINS = ("input", "output")
# Of new connections only: the last packets of those that broke belong to nobody.
COUNT = "ct state new meta nfproto ipv4 counter"


class Firewall:
    """Default drop both ways; what the manual allows goes through.

    Args:
        network: of the nodes, the master being the first.
    Raises:
        NamespaceError: nftables is not installed, or the kernel has none.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        for node in network.nodes:
            self._load(node)

    def dropped(self) -> list[str]:
        """What was dropped so far, by node and direction."""
        counts = {(node, chain): self._count(node, chain) for node in self._network.nodes for chain in CHAINS}
        return [f"node {node} {chain}: {count}" for (node, chain), count in counts.items() if count]

    @contextlib.contextmanager
    def closed(self, node: int, chain: str, ports: str) -> Iterator[None]:
        """Let no new connection to these ports in, or out, for a while.

        Args:
            node: whose firewall.
            chain: "input" or "output".
            ports: as nftables has them, such as "1909" or "1912-1920".
        """
        name = "iif" if chain == "input" else "oif"
        rule = f"{name} != lo ct state new tcp dport {{ {ports} }} drop"
        self._nft(node, f"insert rule inet quakegrid {chain} {rule}")
        yield
        self._nft(node, f"flush ruleset\n{self._rules(node)}")

    def _load(self, node: int) -> None:
        self._nft(node, self._rules(node))

    def _rules(self, node: int) -> str:
        """The manual's rules for this machine, and counters of what is left to be dropped."""
        text = MANUAL.read_text(encoding="utf-8")
        blocks = re.findall(r"```nftables\n(table inet .*?)```", text, re.DOTALL)
        lines = [line for line in "".join(blocks).splitlines() if self._is_for(node, line)]
        counters = [f"add rule inet quakegrid {chain} {COUNT}" for chain in CHAINS]
        prefix = self._network.address(node).rpartition(".")[0]
        return "\n".join([*lines, *counters]).replace("10.0.0.", f"{prefix}.") + "\n"

    @staticmethod
    def _is_for(node: int, line: str) -> bool:
        _rule, _, whom = line.partition("# ")
        return whom in ("", "on every machine") or (whom == "on the master" and node == 0)

    def _count(self, node: int, chain: str) -> int:
        listing = self._nft(node, "", "-j", "list", "chain", "inet", "quakegrid", chain)
        (*_, last) = json.loads(listing)["nftables"]
        (packets,) = (item["counter"]["packets"] for item in last["rule"]["expr"] if "counter" in item)
        return int(packets)

    def _nft(self, node: int, commands: str, *args: str) -> str:
        inside = [tool("ip"), "netns", "exec", self._network.name(node), tool("nft", "nftables")]
        done = subprocess.run(
            [*inside, *(args or ("-f", "-"))], input=commands, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NamespaceError(f"nft: {done.stderr.strip()}")
        return done.stdout
