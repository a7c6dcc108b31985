"""What a shell completes: commands, options, and files where we have no word."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from quakegrid.cli.shell import completion

PROGRAM = Path(sys.executable).with_name("quakegrid")


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


@pytest.mark.parametrize("shell", completion.SHELLS)
@pytest.mark.parametrize("program", completion.PROGRAMS)
def test_each_shell_has_a_script(shell: str, program: str) -> None:
    """For both programs, under the name that the program looks for."""
    done = CliRunner().invoke(completion.completion, [shell, "--program", program])

    assert done.exit_code == 0
    assert f"{completion.PROGRAMS[program]}={shell}_complete" in done.stdout
