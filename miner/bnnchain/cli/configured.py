"""Commands whose options are also keys of ``node.toml`` and environment variables.

What counts, later over earlier: an option's default, the file, the environment, the command line.  Click does the
merging (``default_map``, ``envvar``); what stands here finds the file and refuses what is wrong in it.  Every option of
such a command takes part by itself: the key is the long flag without its dashes, the variable the same in capitals.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bnnchain.cli.options import default_home
from bnnchain.consensus.errors import BnnchainError, Invalid, Unavailable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CONFIG_NAME = "node.toml"
"""The file's name in a home; a home that has one is configured by it."""
VARIABLE_PREFIX = "BNNCHAIN_"
MAX_CONFIG_BYTES = 1 << 18
TABLES = ("mine",)
"""Tables of the file: keys that one command alone has, or takes another value for.  Above them: those of `node`."""

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    expose_value=False,
    help=f"Settings; what is given here or in ${VARIABLE_PREFIX}... comes first.  [default: {CONFIG_NAME} of the home]",
)


class ConfiguredCommand(click.Command):
    """A command that reads ``node.toml`` before its options, and its options' variables."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:  # noqa: ANN401  (click's own signature)
        super().__init__(*arguments, **attributes)
        for option in options_of(self):
            option.envvar = option.envvar or variable_of(option)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, with the file's settings as defaults."""
        if not ctx.resilient_parsing:
            given = self.make_parser(ctx).parse_args(list(args))[0]
            asked_help = self.get_help_option(ctx)
            if asked_help is None or not given.get(asked_help.name or ""):
                chosen = find_config(given.get("config_file"), given.get("home"))
                ctx.default_map = chosen.settings_of(self) if chosen else None
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            option = error.param
            if isinstance(option, click.Option) and _source(ctx, option) == ParameterSource.ENVIRONMENT:
                error.param_hint = f"${option.envvar}"
            raise


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file as read: tables of keys, not yet checked against any option."""

    path: Path
    tables: Mapping[str, Mapping[str, object]]
    """Keys by table; those above all tables under ``""``."""
    is_of_home: bool
    """It lies in the home that it configures."""

    def settings_of(self, command: click.Command) -> dict[str, object]:
        """Return the values of a command's options by parameter name; raises :class:`Invalid` ``bad-config``."""
        problems = self.problems()
        if problems:
            raise Invalid("bad-config", file=self.path, problem="; ".join(problems))
        merged = {**self.tables[""], **self.tables.get(command.name or "", {})}
        options = {key_of(option): option for option in options_of(command)}
        return {
            options[key].name or key: self._placed(options[key], value)
            for key, value in merged.items()
            if key in options
        }

    def problems(self) -> list[str]:
        """Return what is wrong in the file, a line for people each; empty where nothing is."""
        return [
            f"[{table}] {problem}" if table else problem
            for table, values in self.tables.items()
            for problem in self._problems_of(table, values)
        ]

    def _problems_of(self, table: str, values: Mapping[str, object]) -> Iterator[str]:
        if table and table not in TABLES:
            yield f"unknown table{nearest(table, TABLES)}"
            return
        command = configured_commands()[table or "node"]
        options = {key_of(option): option for option in options_of(command)}
        elsewhere = {key_of(option): name for name in TABLES for option in options_of(configured_commands()[name])}
        for key, value in values.items():
            option = options.get(key)
            if option is None:
                owner = elsewhere.get(key)
                yield (
                    f"{key}: belongs below [{owner}]"
                    if owner
                    else f"{key}: unknown key{nearest(key, [*options, *elsewhere])}"
                )
            elif key == "home" and self.is_of_home:
                yield "home: a file in a home cannot name another one; give the file with --config"
            else:
                problem = _type_problem(option, value) or _value_problem(command, option, self._placed(option, value))
                if problem:
                    yield f"{key}: {problem}"

    def _placed(self, option: click.Option, value: object) -> object:
        """Return the value, a relative path seen from the file's directory."""
        if not isinstance(option.type, click.Path):
            return value
        if isinstance(value, list):
            return [str(self.path.parent / str(each)) for each in value]
        return str(self.path.parent / str(value))


def configured_commands() -> dict[str, click.Command]:
    """Return the commands that the file configures, by name."""
    # Here and not above: they are made of this module's class.
    from bnnchain.cli.run import mine, node

    return {"node": node, "mine": mine}


def options_of(command: click.Command) -> list[click.Option]:
    """Return the options that may be set in the file, in the order of `--help`."""
    flags = [each for each in command.params if isinstance(each, click.Option) and each.name != "config_file"]
    return [option for option in flags if not option.is_eager]


def key_of(option: click.Option) -> str:
    """Return an option's key in the file: its long flag without dashes."""
    return next(flag for flag in option.opts if flag.startswith("--"))[2:]


def variable_of(option: click.Option) -> str:
    """Return an option's environment variable."""
    return VARIABLE_PREFIX + key_of(option).replace("-", "_").upper()


def find_config(given: object = None, home: object = None) -> ConfigFile | None:
    """Return the file named, by flag or variable, or else the home's, or None where it has none.

    Raises :class:`Unavailable` where the named file cannot be read and :class:`Invalid` ``bad-config`` where it is no
    TOML, with the line.
    """
    named = given or os.environ.get(f"{VARIABLE_PREFIX}CONFIG")
    if named:
        return read_config(Path(str(named)), is_of_home=False)
    path = (Path(str(home)) if home else default_home()) / CONFIG_NAME
    return read_config(path, is_of_home=True) if path.exists() else None


def read_config(path: Path, *, is_of_home: bool) -> ConfigFile:
    """Return a file's tables; raises as :func:`find_config`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise Invalid("bad-config", file=path, problem=f"larger than {MAX_CONFIG_BYTES} bytes")
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # both of TOML's and of UTF-8's errors are ValueErrors
        raise Invalid("bad-config", file=path, problem=error or type(error).__name__) from error
    tables = {name: value for name, value in document.items() if isinstance(value, dict)}
    return ConfigFile(path, {"": {k: v for k, v in document.items() if k not in tables}, **tables}, is_of_home)


def _source(context: click.Context, option: click.Option) -> ParameterSource | None:
    return context.get_parameter_source(option.name or "")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return words that name the nearest of ``known``, none where nothing is near."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _type_problem(option: click.Option, value: object) -> str | None:
    """Return what is wrong with the TOML type of a value; click alone would take 2.7 for 2 and true for 1."""
    if not option.multiple:
        return _item_problem(option, value)
    if not isinstance(value, list):
        return "wants a list, in square brackets"
    return next((problem for each in value if (problem := _item_problem(option, each))), None)


def _item_problem(option: click.Option, value: object) -> str | None:
    kind = option.type
    if isinstance(kind, click.types.BoolParamType):
        return None if isinstance(value, bool) else "wants true or false"
    if option.count or isinstance(kind, click.types.IntParamType):
        return None if type(value) is int else "wants a whole number"
    if isinstance(kind, click.types.FloatParamType):
        return None if type(value) in {int, float} else "wants a number"
    return None if isinstance(value, str) else "wants text, in quotes"


def _value_problem(command: click.Command, option: click.Option, value: object) -> str | None:
    """Return why the option's own type or check refuses a value."""
    try:
        with click.Context(command, info_name=command.name) as context:
            option.process_value(context, value)
    except click.BadParameter as error:
        return error.message.rstrip(".")
    except BnnchainError as error:
        return str(error)
    return None
