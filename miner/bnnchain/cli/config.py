"""`bnnchain config`: an example of the configuration file, and what is in force with one."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from bnnchain.cli.configured import (
    CONFIG_NAME,
    TABLES,
    VARIABLE_PREFIX,
    configured_commands,
    find_config,
    key_of,
    nearest,
    options_of,
)
from bnnchain.cli.options import default_home, home_option, json_option, say, write_json
from bnnchain.consensus.errors import BnnchainError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnchain.cli.configured import ConfigFile
    from bnnchain.home import Home

OTHER_VARIABLES = ("BNNCHAIN_HOME", "BNNCHAIN_CONFIG", "BNNCHAIN_DEBUG", "BNNCHAIN_ISA", "BNNCHAIN_FPGA_BITSTREAM")
"""Variables that mean something and are no option of a node's."""


@click.group()
def config() -> None:
    """Print an example of node.toml, or check one."""


@config.command()
def example() -> None:
    """Print a node.toml that explains every setting and changes none."""
    click.echo(read_example(), nl=False)


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@home_option
@json_option
@click.pass_context
def check(context: click.Context, file: Path | None, home: Home, json_file: str | None) -> None:
    """Say everything that is wrong in FILE and the environment; where nothing is, what is in force and why.

    FILE is $BNNCHAIN_CONFIG, or the home's node.toml, where none is named.  Exit 1 where something is wrong.
    """
    found = find_config(file, home.path)
    problems = found.problems() if found else []
    is_given = context.get_parameter_source("home") == ParameterSource.COMMANDLINE
    given = {"home": str(home.path)} if is_given else {}
    rows = list(_effective(None if problems else found, given, problems))
    tell = say(json_file)
    tell(f"file {found.path}" if found else f"no file: neither --config nor {home.path / CONFIG_NAME}")
    for row in rows if not problems else ():
        tell(f"{row['setting']:24} {row['value']:32} {row['from']}".rstrip())
    for note in _unknown_variables():
        tell(f"note: {note}")
    for problem in problems:
        tell(f"wrong: {problem}")
    write_json(json_file, {"file": str(found.path) if found else None, "problems": problems, "settings": rows})
    if problems:
        context.exit(1)
    tell("nothing is wrong")


def read_example() -> str:
    """Return the example of node.toml."""
    return files("bnnchain.cli").joinpath("example.toml").read_text(encoding="utf-8")


def _effective(found: ConfigFile | None, given: dict[str, str], problems: list[str]) -> Iterator[dict[str, str]]:
    """Yield each setting with its value and source; add to ``problems`` what the environment has wrong."""
    seen: set[str] = set()
    for name, command in configured_commands().items():
        context = click.Context(command, info_name=name)
        context.default_map = found.settings_of(command) if found else None
        for option in options_of(command):
            key = key_of(option)
            if name != "node" and key in seen and key not in (found.tables.get(name, {}) if found else {}):
                continue  # said above: it is the same for both
            seen.add(key)
            setting = f"{name}.{key}" if name in TABLES else key
            try:
                option.handle_parse_result(context, given, [])
            except (click.UsageError, BnnchainError) as error:
                reason = error.message if isinstance(error, click.UsageError) else str(error)
                problems.append(f"{option.envvar}: {reason.rstrip('.')}")
                continue
            yield {"setting": setting, **_describe(context, option, found)}


def _describe(context: click.Context, option: click.Option, found: ConfigFile | None) -> dict[str, str]:
    source = context.get_parameter_source(option.name or "")
    if source == ParameterSource.ENVIRONMENT:
        return {"value": _text(option.value_from_envvar(context)), "from": f"${option.envvar}"}
    if source == ParameterSource.DEFAULT_MAP and found is not None:
        return {"value": _text(context.lookup_default(option.name or "")), "from": str(found.path)}
    if source == ParameterSource.COMMANDLINE:
        return {"value": _text(context.params[option.name or ""]), "from": "command line"}
    default = default_home() if option.name == "home" else option.to_info_dict()["default"]
    return {"value": _text(default), "from": "default"}


def _text(value: object) -> str:
    """Return a value as people write it; '-' where there is none."""
    if value is None or value == ():
        return "-"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return str(getattr(value, "path", value))


def _unknown_variables() -> Iterator[str]:
    known = {option.envvar for command in configured_commands().values() for option in options_of(command)}
    names = sorted({str(name) for name in known} | set(OTHER_VARIABLES))
    for name in sorted(os.environ):
        if name.startswith(VARIABLE_PREFIX) and name not in names:
            yield f"${name} means nothing{nearest(name, names)}"
