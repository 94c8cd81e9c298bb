"""``virtio completion``: the script by which a shell completes our commands."""

from __future__ import annotations

import click

from virtio.cli.command import Command


@click.command(
    cls=Command,
    examples=[
        ("virtio completion bash > ~/.local/share/bash-completion/completions/virtio", "bash"),
        ("virtio completion zsh > ~/.zfunc/_virtio", "zsh, with ~/.zfunc in fpath"),
        ("virtio completion fish > ~/.config/fish/completions/virtio.fish", "fish"),
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from virtio.cli.app import root

    cls = get_completion_class(shell)
    assert cls is not None
    completer = cls(root, {}, "virtio", "_VIRTIO_COMPLETE")
    click.echo(completer.source_template % completer.source_vars())
