"""Commands that are imported when they are called: `bnnchain --help` loads no kernel, no gRPC, no NumPy."""

from __future__ import annotations

from importlib import import_module

import click


class LazyGroup(click.Group):
    """A group whose commands are given as ``module:attribute``."""

    def __init__(self, *, commands_by_path: dict[str, str], **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]
        self._paths = commands_by_path

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self._paths)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        path = self._paths.get(cmd_name)
        if path is None:
            return None
        module, attribute = path.split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command
