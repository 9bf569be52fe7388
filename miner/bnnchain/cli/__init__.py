"""The command ``bnnchain``: errors are one clear line and a non-zero exit, never a traceback."""

from __future__ import annotations

import os
import sys

import click

from bnnchain import logs
from bnnchain.cli import lazy
from bnnchain.consensus.errors import BnnchainError

EXIT_ERROR = 1
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130
DEBUG_VARIABLE = "BNNCHAIN_DEBUG"

COMMANDS = {
    "init": "bnnchain.cli.init:init",
    "node": "bnnchain.cli.run:node",
    "mine": "bnnchain.cli.run:mine",
    "demo": "bnnchain.cli.demo:demo",
    "top": "bnnchain.cli.top:top",
    "metrics": "bnnchain.cli.metrics:metrics",
    "verify": "bnnchain.cli.inspect:verify",
    "show": "bnnchain.cli.inspect:show",
    "snapshot": "bnnchain.cli.snapshot:snapshot",
    "repair": "bnnchain.cli.repair:repair",
    "bench": "bnnchain.cli.bench:bench",
    "dataset": "bnnchain.cli.dataset:dataset",
    "model": "bnnchain.cli.model:model",
    "train": "bnnchain.cli.train:train",
    "shapes": "bnnchain.cli.shapes:shapes",
    "pool": "bnnchain.cli.pool:pool",
    "fpga": "bnnchain.cli.fpga:fpga",
    "tls": "bnnchain.cli.tls:tls",
    "wallet": "bnnchain.cli.wallet:wallet",
    "tx": "bnnchain.cli.wallet:tx",
    "config": "bnnchain.cli.config:config",
    "service": "bnnchain.cli.service:service",
    "spec": "bnnchain.cli.spec:spec",
    "completion": "bnnchain.cli.completion:completion",
}


def print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001
    """Print version, commit and kernel, and end."""
    if not wanted or context.resilient_parsing:
        return
    from bnnchain.cli.version import describe_version

    click.echo(describe_version())
    context.exit()


@click.group(cls=lazy.LazyGroup, commands_by_path=COMMANDS)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=print_version, help="Show it.")
@click.option("-v", "--verbose", count=True, help="Log more (twice: everything).")
def cli(verbose: int) -> None:
    """A blockchain whose blocks are earned by better binary neural networks."""
    logs.configure(logs.level_of(verbose), "human")


def main() -> None:
    """Run the command line; the exit code is 0, 1 (said in one line), 2 (usage), 70 (our bug) or 130 (interrupted)."""
    # Before NumPy is loaded: our own threads are the parallelism, and BLAS threads that spin on the same few cores made
    # training ten to a hundred times slower on a busy machine (measured).  Set the variable to choose otherwise.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Or gRPC writes a line of its own for every guest that fails in TLS; what matters of it, our errors say.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # gRPC's core writes its own lines to stderr, neither JSON nor escaped; what matters of them comes as an error.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BnnchainError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_ERROR)
    except BrokenPipeError:
        # The reader of our output left (`bnnchain show chain | head`): nothing more to say to anybody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        click.echo(f"internal error: {type(error).__name__}: {error} ({DEBUG_VARIABLE}=1 shows where)", err=True)
        sys.exit(EXIT_INTERNAL)
