"""Command `completion`: prints what lets a shell complete commands, options and file names."""

from __future__ import annotations

import click
from click import shell_completion

SHELLS = ("bash", "zsh", "fish")
PROGRAMS = {"quakegrid": "_QUAKEGRID_COMPLETE", "agentctl": "_AGENTCTL_COMPLETE"}


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.option(
    "--program",
    type=click.Choice(list(PROGRAMS)),
    default="quakegrid",
    show_default=True,
    help="For this program.",
)
def completion(shell: str, program: str) -> None:
    r"""Print what lets your shell complete commands and options.

    \b
    bash, in ~/.bashrc:   eval "$(quakegrid completion bash)"
    zsh, in ~/.zshrc:     eval "$(quakegrid completion zsh)"
    fish:                 quakegrid completion fish | source
    """
    kind = shell_completion.get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    source = kind(click.Command(program), {}, program, PROGRAMS[program]).source()
    if shell == "bash":
        # Job files and folders are completed by the shell itself where we have no word.
        source = source.replace("complete -o nosort -F", "complete -o nosort -o bashdefault -o default -F")
    click.echo(source)
