"""A virtual machine with systemd and cgroup v2, driven through QEMU's guest agent.

It reaches nothing but machines on the same `link`, an Ethernet that exists between their processes only.
What its disk changes is forgotten when its process ends; a reboot keeps it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Without KVM every instruction is emulated.
BOOT_TIMEOUT_S = 600.0
COMMAND_TIMEOUT_S = 600.0
ANSWER_TIMEOUT_S = 30.0
POLL_S = 0.5
QEMU = "qemu-system-x86_64"
# An emulated processor that waits for ours may think that its timer is broken; after a panic it boots again.
TIMING = "no_timer_check panic=1"


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended in the machine."""

    code: int
    out: str
    err: str


class MachineError(Exception):
    """The machine ended, or does not answer in time."""


def wait_until(is_so: Callable[[], Any], what: str, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
    """Ask until it is so."""
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s, f"never came: {what}"
        time.sleep(POLL_S)


def accelerator() -> list[str]:
    """QEMU's options for a processor: KVM where it runs a kernel as it is, else emulation."""
    is_pvm = Path("/sys/module/kvm_pvm").exists()  # that KVM is for kernels that were made for it
    if os.access("/dev/kvm", os.R_OK | os.W_OK) and not is_pvm:
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi", "-cpu", "max"]


class Machine:
    """One machine.

    Args:
        name: its host name.
        image: folder that `make_image.sh` wrote.
        folder: for its console's text and its sockets.
        address: its own on the link.
        is_first: whether it holds the link's end to which others connect.
    """

    def __init__(self, name: str, image: Path, folder: Path, address: str, *, is_first: bool = False) -> None:
        self.name, self.address = name, address
        self._image, self._folder, self._is_first = image, folder, is_first
        self._process: subprocess.Popen[bytes] | None = None
        self._sync_id = 0

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def console(self) -> Path:
        """What kernel and systemd print."""
        return self._folder / f"{self.name}.console"

    @property
    def _socket(self) -> Path:
        return self._folder / f"{self.name}.agent"

    def start(self) -> None:
        """Switch it on and wait until systemd is done with starting."""
        agent = f"socket,path={self._socket},server=on,wait=off,id=agent"
        end = f"server={'on' if self._is_first else 'off'},addr.type=unix,addr.path={self._folder / 'link'}"
        device = f"virtio-net-pci,netdev=link,mac=52:54:00:00:00:{int(self.address.rpartition('.')[2]):02x}"
        network = ["-netdev", f"stream,id=link,{end}", "-device", device]
        self._process = subprocess.Popen(
            [
                *("nice", QEMU, *accelerator(), "-smp", "2", "-m", "1536", "-nodefaults", "-display", "none"),
                *("-kernel", str(self._image / "vmlinuz"), "-initrd", str(self._image / "initrd")),
                "-append",
                f"console=ttyS0 root=/dev/vda rw net.ifnames=0 systemd.hostname={self.name} {TIMING}",
                *("-drive", f"file={self._image / 'disk.ext4'},format=raw,if=virtio,snapshot=on"),
                *("-serial", f"file:{self.console}", "-device", "virtio-rng-pci", *network),
                *("-device", "virtio-serial-pci", "-chardev", agent),
                *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
            ],
            stdin=subprocess.DEVNULL,
        )
        self.wait_until_up()
        settings = f"[Match]\nName=eth0\n[Network]\nAddress={self.address}/24\n"
        self.script(f"printf '{settings}' > /etc/systemd/network/eth0.network".replace("\n", "\\n"))
        self.must("systemctl", "enable", "--now", "systemd-networkd")

    def wait_until_up(self) -> None:
        """Wait until all that starts with the machine has started, or failed to."""
        end_s = time.monotonic() + BOOT_TIMEOUT_S
        while True:
            try:
                self.run("systemctl", "is-system-running", "--wait")
            except MachineError:
                if not self.is_running or time.monotonic() > end_s:
                    raise
                time.sleep(POLL_S)
            else:
                return

    def run(self, *argv: object, timeout_s: float = COMMAND_TIMEOUT_S) -> Done:
        """Run a command as root to its end, whatever its exit code.

        Raises:
            MachineError: the machine does not answer, or not in time.
        """
        path, *args = map(str, argv)
        environ = ["HOME=/root", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
        order = {"path": path, "arg": args, "env": environ, "capture-output": True}
        pid = self._ask("guest-exec", order)["pid"]
        end_s = time.monotonic() + timeout_s
        while not (found := self._ask("guest-exec-status", {"pid": pid}))["exited"]:
            if time.monotonic() > end_s:
                raise MachineError(f"{self.name}: {path} {args} did not end in {timeout_s:g} s")
            time.sleep(POLL_S)
        out, err = (
            base64.b64decode(found.get(key, "")).decode(errors="replace") for key in ("out-data", "err-data")
        )
        return Done(found.get("exitcode", 128 + found.get("signal", 0)), out, err)

    def must(self, *argv: object, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command that must succeed; what it printed."""
        done = self.run(*argv, timeout_s=timeout_s)
        assert done.code == 0, f"{self.name}: {argv}: exit code {done.code}: {done.err}{done.out}"
        return done.out

    def script(self, text: str) -> str:
        """Run a shell script that must succeed."""
        return self.must("sh", "-euc", text)

    def reboot(self) -> None:
        """Start it anew, in order, and wait until it is up."""
        before = self.must("cat", "/proc/sys/kernel/random/boot_id")
        with contextlib.suppress(MachineError):  # it may be too late to tell us
            self.run("systemctl", "--no-block", "reboot")
        self._wait_for_another_boot(before)

    def cut_power(self) -> None:
        """Start it anew at once: nothing is told, nothing more is written."""
        before = self.must("cat", "/proc/sys/kernel/random/boot_id")
        with contextlib.suppress(MachineError):  # it cannot answer any more
            self.run("sh", "-c", "echo b > /proc/sysrq-trigger", timeout_s=1)
        self._wait_for_another_boot(before)

    def _wait_for_another_boot(self, before: str) -> None:
        def is_another() -> bool:
            try:
                return self.must("cat", "/proc/sys/kernel/random/boot_id") != before
            except MachineError:
                return False

        wait_until(is_another, f"{self.name} starts anew", BOOT_TIMEOUT_S)
        self.wait_until_up()

    def stop(self) -> None:
        """Switch it off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _ask(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """One question to the guest agent; a fresh connection each, since a reboot forgets them."""
        self._sync_id += 1
        sync = {"execute": "guest-sync", "arguments": {"id": self._sync_id}}
        order = {"execute": command, "arguments": arguments}
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(ANSWER_TIMEOUT_S)
                link.connect(str(self._socket))
                # The byte ends what a connection before may have left in the agent's parser.
                link.sendall(b"\xff" + json.dumps(sync).encode() + b"\n")
                with link.makefile("rb") as answers:
                    while self._read(answers.readline()).get("return") != self._sync_id:
                        pass
                    link.sendall(json.dumps(order).encode() + b"\n")
                    answer = self._read(answers.readline())
        except OSError as exc:
            raise MachineError(f"{self.name} does not answer: {exc}; see {self.console}") from exc
        found = answer.get("return")
        if not isinstance(
            found, dict
        ):  # a program that is not there; an agent that was started anew meanwhile
            raise MachineError(f"{self.name}: {command}: {answer}")
        return found

    def _read(self, line: bytes) -> dict[str, Any]:
        if not line:
            raise MachineError(f"{self.name} ended; see {self.console}")
        try:
            found = json.loads(line.lstrip(b"\xff"))
        except ValueError:
            return {}  # the rest of an older answer
        return found if isinstance(found, dict) else {}
