"""`bnnchain train`: a model trained off the chain, written as a file that every other command reads."""

from __future__ import annotations

import contextlib
import secrets
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnchain.backends import evaluator_factory
from bnnchain.bnn.encoding import encode_model, model_hash
from bnnchain.cli.architectures import METAVAR, name_architecture, to_architecture
from bnnchain.cli.dataset import DATASETS_DIRECTORY
from bnnchain.cli.options import backend_option, data_option, home_option, json_option, say, write_json
from bnnchain.cli.run import SEED_BITS
from bnnchain.datasets import registry
from bnnchain.exchange.files import write_model
from bnnchain.exchange.provenance import Provenance
from bnnchain.mining.founders import FOUNDERS, select_founder
from bnnchain_kernels.evaluator import count_correct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bnnchain.datasets.dataset import Dataset
    from bnnchain.home import Home
    from bnnchain.mining.founders import FoundedModel, FoundProgress
    from bnnchain_kernels.model import Architecture


@click.command()
@home_option
@click.option("--dataset", "dataset_name", default="mnist", show_default=True, help="Data set to train on.")
@data_option
@click.option("--architecture", callback=to_architecture, metavar=METAVAR, required=True, help="Shape of the model.")
@click.option("--epochs", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Passes over the pool.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the training's random choices.  [default: random]")
@click.option("--trainer", type=click.Choice(FOUNDERS), default="larq", show_default=True, help="Who trains.")
@click.option("--threads", type=click.IntRange(1, 64), default=2, show_default=True, help="Threads of Larq's training.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write the model to.  [default: ARCHITECTURE.bnn]",
)
@backend_option
@json_option
def train(
    home: Home,
    dataset_name: str,
    data_dir: Path | None,
    architecture: Architecture,
    epochs: int,
    seed: int | None,
    trainer: str,
    threads: int,
    out: Path | None,
    backend: str,
    json_file: str | None,
) -> None:
    """Train a model and write it; Ctrl-C ends the training and keeps the best so far.

    Accuracies are counted on the integer model: on the pool it was chosen by, and on the held-out images.
    """
    founder = select_founder(trainer, threads)
    dataset = registry.load(dataset_name, data_dir, home.path / DATASETS_DIRECTORY)
    factory = evaluator_factory(backend)
    seed = secrets.randbits(SEED_BITS) if seed is None else seed
    out = out or Path(f"{name_architecture(architecture)}.bnn")
    with _interrupts() as is_interrupted:
        founded = founder.found(
            architecture,
            dataset.pool,
            factory(dataset.pool),
            seed=seed,
            max_epochs=epochs,
            on_progress=_Printer(say(json_file)),
            should_stop=is_interrupted,
        )
    heldout_correct = count_correct(factory(dataset.heldout), founded.model, len(dataset.heldout))
    write_model(out, founded.model, _provenance(dataset, founded))
    write_json(
        json_file,
        {
            "model": str(out),
            "hash": model_hash(founded.model).hex(),
            "wire_bytes": len(encode_model(founded.model)),
            "dataset": dataset.manifest.name,
            "architecture": name_architecture(architecture),
            "trainer": founder.name,
            "seed": seed,
            "epochs": round(founded.epochs, 2),
            "seconds": round(founded.seconds, 1),
            "pool_correct": founded.correct,
            "pool_size": founded.pool_size,
            "heldout_correct": heldout_correct,
            "heldout_size": len(dataset.heldout),
        },
    )
    heldout = f", {_share(heldout_correct, len(dataset.heldout))} of the held-out images" if dataset.heldout else ""
    say(json_file)(
        f"{out}: {len(encode_model(founded.model))} B,"
        f" {_share(founded.correct, founded.pool_size)} of the pool{heldout};"
        f" {founded.epochs:.1f} epochs in {founded.seconds:.0f} s, seed {seed}"
    )


class _Printer:
    """Prints a line for each epoch."""

    def __init__(self, echo: Callable[[str], None]) -> None:
        self._echo = echo
        self._printed_epochs = 0

    def __call__(self, progress: FoundProgress) -> None:
        if int(progress.epochs) > self._printed_epochs:
            self._printed_epochs = int(progress.epochs)
            self._echo(
                f"epoch {self._printed_epochs} of {progress.max_epochs}: loss {progress.loss:.3f},"
                f" {_share(progress.correct, progress.pool_size)} of the pool,"
                f" best {_share(progress.best_correct, progress.pool_size)}, {progress.seconds:.0f} s"
            )


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Yield what answers whether SIGINT came; a second one interrupts as it always does."""
    interrupted = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def note(_number: int, _frame: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _provenance(dataset: Dataset, founded: FoundedModel) -> Provenance:
    manifest = dataset.manifest
    return Provenance(
        model_hash(founded.model).hex(),
        dataset=manifest.name,
        dataset_id=manifest.dataset_id.hex(),
        thresholds=tuple(manifest.thresholds),
        licence=manifest.licence,
        origin=manifest.origin,
        correct=founded.correct,
        total=founded.pool_size,
    )


def _share(correct: int, size: int) -> str:
    return f"{correct / size:.2%}"
