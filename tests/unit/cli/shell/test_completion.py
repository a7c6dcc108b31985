"""What a shell completes: commands, options, and files where we have no word."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from quakegrid.cli.shell import completion

PROGRAM = Path(sys.executable).with_name("quakegrid")
TIMEOUT_S = 60


def completed(words: str, folder: Path) -> list[str]:
    """What bash completes after these words, in a folder."""
    script = CliRunner().invoke(completion.completion, ["bash"]).stdout
    code = (
        f"{script}\n"
        f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE='{words}'\n"
        "_quakegrid_completion quakegrid; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    environ = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", code],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_and_leaves_files_to_itself(tmp_path: Path) -> None:
    """Names of ours; where we have none, bash takes those of files."""
    assert completed("quakegrid comp", tmp_path) == ["completion"]
    assert completed("quakegrid run jo", tmp_path) == []
    assert "-o bashdefault -o default" in CliRunner().invoke(completion.completion, ["bash"]).stdout


def completed_by_zsh(words: str, folder: Path) -> str:
    """The line that stands in an interactive zsh, new and without settings, after a press of Tab."""
    script = folder / "completion.zsh"
    script.write_text(CliRunner().invoke(completion.completion, ["zsh"]).stdout)
    # After Tab the keys put a command before the line, which prints it.
    keys = f"cd {folder}; source {script}; print re''ady\n", f"{words}\t\x01print -r -- \x05\n"
    pid, terminal = pty.fork()
    if pid == 0:
        environ = {**environment(folder), "TERM": "dumb"}
        os.execve(str(shutil.which("zsh")), ["zsh", "-f", "-i"], environ)
    try:
        os.write(terminal, keys[0].encode())
        shown_until(terminal, "\nready\r\n")
        os.write(terminal, keys[1].encode())
        return shown_until(terminal, r"\n(quakegrid [^\r]*)\r\n")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def shown_until(terminal: int, pattern: str) -> str:
    """Read what a terminal shows until it has this; gives the first group, or all."""
    shown = ""
    while (found := re.search(pattern, shown)) is None:
        readable, _, _ = select.select([terminal], [], [], TIMEOUT_S)
        assert readable, f"nothing more came after {shown!r}"
        shown += os.read(terminal, 1 << 16).decode(errors="replace")
    return found[found.re.groups].rstrip()


def completed_by_fish(words: str, folder: Path) -> list[str]:
    """What fish offers, without its descriptions."""
    script = CliRunner().invoke(completion.completion, ["fish"]).stdout
    done = in_shell(["fish", "--no-config", "-c", f"{script}\ncomplete --do-complete '{words}'"], folder)
    return [line.partition("\t")[0] for line in done.splitlines()]


def in_shell(command: list[str], folder: Path) -> str:
    """What a shell prints."""
    done = subprocess.run(
        command,
        env=environment(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    return done.stdout


def environment(folder: Path) -> dict[str, str]:
    """That of a shell that finds our programs and has an empty home."""
    return {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "HOME": str(folder)}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_completes_commands_and_leaves_files_to_itself(tmp_path: Path) -> None:
    """A press of Tab in a shell whose completion was not set up."""
    (tmp_path / "job_hazard.ini").touch()

    assert completed_by_zsh("quakegrid comp", tmp_path) == "quakegrid completion"
    assert completed_by_zsh("quakegrid run jo", tmp_path) == "quakegrid run job_hazard.ini"


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish_completes_commands_and_leaves_files_to_itself(tmp_path: Path) -> None:
    """As it offers them to a person."""
    (tmp_path / "job_hazard.ini").touch()

    assert completed_by_fish("quakegrid comp", tmp_path) == ["completion"]
    assert completed_by_fish("quakegrid run jo", tmp_path) == ["job_hazard.ini"]


@pytest.mark.parametrize("shell", completion.SHELLS)
@pytest.mark.parametrize("program", completion.PROGRAMS)
def test_each_shell_has_a_script(shell: str, program: str) -> None:
    """For both programs, under the name that the program looks for."""
    done = CliRunner().invoke(completion.completion, [shell, "--program", program])

    assert done.exit_code == 0
    assert f"{completion.PROGRAMS[program]}={shell}_complete" in done.stdout
