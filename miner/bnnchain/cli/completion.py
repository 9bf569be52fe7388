"""`bnnchain completion`: what a shell needs to complete this command's words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from bnnchain.consensus.errors import Fault

PROGRAM = "bnnchain"
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    r"""Print the completion script of SHELL.

    \b
    bash  bnnchain completion bash > ~/.local/share/bash-completion/completions/bnnchain
    zsh   bnnchain completion zsh > ~/.zfunc/_bnnchain  (a directory of $fpath)
    fish  bnnchain completion fish > ~/.config/fish/completions/bnnchain.fish
    """
    from bnnchain.cli import cli

    maker = get_completion_class(shell)
    if maker is None:
        raise Fault(f"this version of click cannot complete in {shell}")
    click.echo(maker(cli, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
