"""Command `completion`: prints what lets a shell complete commands, options and file names."""

from __future__ import annotations

import click
from click import shell_completion

SHELLS = ("bash", "zsh", "fish")
# Lines of click's scripts, and what takes their place: where we have no word, shells complete files, and a
# zsh whose completion is not set up sets it up.
CHANGES = {
    "bash": {"    complete -o nosort -F": "    complete -o nosort -o bashdefault -o default -F"},
    "zsh": {
        "    for type key": """\
    [[ -z "$response" ]] && _files && return

    for type key""",
        "    compdef ": """\
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef """,
    },
    "fish": {
        "    for completion in": """\
    if test -z "$response";
        __fish_complete_path (commandline -t);
    end;

    for completion in""",
        # Descriptions have commas, too.
        'string split "," $completion': 'string split --max 1 "," $completion',
    },
}
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
    """Print what lets your shell complete commands and options.

    Where it knows no word, your shell completes files.

    For bash, put `eval "$(quakegrid completion bash)"` into ~/.bashrc.

    For zsh, put `eval "$(quakegrid completion zsh)"` into ~/.zshrc.

    For fish, put `quakegrid completion fish | source` into ~/.config/fish/config.fish.
    """
    kind = shell_completion.get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    source = kind(click.Command(program), {}, program, PROGRAMS[program]).source()
    for before, after in CHANGES[shell].items():
        assert before in source, "click has another script"
        source = source.replace(before, after)
    click.echo(source)
