"""``bnnchain shapes evolve``: which shapes are worth founding a family with on a data set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnnchain.backends import evaluator_factory
from bnnchain.bnn.encoding import model_hash
from bnnchain.bnn.notation import format_architecture
from bnnchain.cli.architectures import METAVAR, to_architectures
from bnnchain.cli.dataset import DATASETS_DIRECTORY
from bnnchain.cli.options import data_option, home_option, json_option, say, write_json
from bnnchain.cli.shapes_report import describe_search, describe_shape, draw_pareto
from bnnchain.consensus.params import BP, DEFAULT_PRESET, PRESETS
from bnnchain.datasets import registry
from bnnchain.exchange.extras import load_extra
from bnnchain.exchange.files import write_model
from bnnchain.exchange.provenance import Provenance
from bnnchain.mining.shape_operators import ShapeSpace
from bnnchain.mining.shape_search import GenerationProgress, ShapeRequest, ShapeSearch
from bnnchain_kernels.errors import Fault
from bnnchain_kernels.evaluator import count_correct

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from bnnchain.datasets.dataset import Dataset
    from bnnchain.home import Home
    from bnnchain.mining.shape_search import ScoredShape
    from bnnchain_kernels.model import Architecture

MAX_TRAINING, MAX_VALIDATION = 8_000, 8_000
"""Images of the short trainings and of judging them, where nothing else is asked; of a smaller pool, its thirds."""


@click.group()
def shapes() -> None:
    """Evolve shapes of networks for new families."""


@shapes.command()
@home_option
@click.option("--dataset", "dataset_name", default="mnist", show_default=True, help="Data set to found on.")
@data_option
@click.option("--preset", type=click.Choice(list(PRESETS)), default=DEFAULT_PRESET, show_default=True, help="Bounds.")
@click.option("--max-connections", type=click.IntRange(min=1), help="Most weights.  [default: the preset's]")
@click.option("--max-macs", type=click.IntRange(min=1), help="Most work of one image.  [default: the preset's]")
@click.option(
    "--start",
    multiple=True,
    callback=to_architectures,
    metavar=METAVAR,
    help="Shape in the first population, beside random ones; repeatable.",
)
@click.option("--population", type=click.IntRange(2, 1_024), default=16, show_default=True, help="Shapes kept.")
@click.option("--generations", type=click.IntRange(1, 1_000), default=8, show_default=True, help="Rounds.")
@click.option("--epochs", type=click.IntRange(1, 100), default=3, show_default=True, help="Of a short training.")
@click.option("--trials", type=click.IntRange(1, 16), default=2, show_default=True, help="Trainings of a kept shape.")
@click.option("--training-images", type=click.IntRange(min=1), help="Of a short training.  [default: up to 8,000]")
@click.option("--validation-images", type=click.IntRange(min=1), help="That judge.  [default: up to 8,000]")
@click.option("--cross-percent", type=click.FloatRange(0, 100), default=50.0, show_default=True, help="Of children.")
@click.option("--mutate-percent", type=click.FloatRange(0, 100), default=25.0, show_default=True, help="Of layers.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all random choices.")
@click.option("--threads", type=click.IntRange(1, 64), default=2, show_default=True, help="Trainings side by side.")
@click.option("--finalists", type=click.IntRange(1, 64), default=4, show_default=True, help="Shapes trained longer.")
@click.option("--founding-epochs", type=click.IntRange(1, 1_000), default=5, show_default=True, help="Of finalists.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Directory for the finalists' models.")
@click.option("--chart", metavar="STEM", help="Draw the front into STEM.png and STEM.svg.")
@json_option
def evolve(
    home: Home,
    dataset_name: str,
    data_dir: Path | None,
    preset: str,
    max_connections: int | None,
    max_macs: int | None,
    start: tuple[Architecture, ...],
    population: int,
    generations: int,
    epochs: int,
    trials: int,
    training_images: int | None,
    validation_images: int | None,
    cross_percent: float,
    mutate_percent: float,
    seed: int,
    threads: int,
    finalists: int,
    founding_epochs: int,
    out: Path | None,
    chart: str | None,
    json_file: str | None,
) -> None:
    """Evolve shapes: accurate, cheap to evaluate, small to send; train the best as founding models.

    Ctrl-C ends the search and goes on with what it found.  A shape is mined with by `bnnchain mine --architecture`.
    """
    if chart is not None:
        load_extra("matplotlib", "bench")  # a search is long: what it will lack is said before it
    dataset = registry.load(dataset_name, data_dir, home.path / DATASETS_DIRECTORY)
    pool, params = dataset.pool, PRESETS[preset]
    space = ShapeSpace(
        pool.height,
        pool.width,
        pool.planes,
        pool.classes,
        min(params.max_connection_count, max_connections or params.max_connection_count),
        min(params.max_gate_macs // len(pool), max_macs or params.max_gate_macs),
    )
    request = ShapeRequest(
        space,
        seed,
        start=start,
        population=population,
        generations=generations,
        training_size=training_images or max(1, min(MAX_TRAINING, len(pool) // 3)),
        validation_size=validation_images or max(1, min(MAX_VALIDATION, len(pool) // 3)),
        epochs=epochs,
        max_trials=trials,
        crossover_bp=round(cross_percent * BP / 100),
        mutation_bp=round(mutate_percent * BP / 100),
        least_accuracy_bp=params.min_family_acc_bp,
    )
    search = ShapeSearch(request, pool)
    tell = say(json_file)
    with ThreadPoolExecutor(threads) as executor:
        _run(search, executor, tell)
        chosen = choose_finalists(search.result.front, finalists)
        rows = _found(search, chosen, dataset, founding_epochs, executor, out)
    for row in rows:
        tell(
            "{shape}: {validation_percent:.2f} % of validation, {pool_percent:.2f} % of the pool, {weights} weights,"
            " {macs} macs, {bytes} B{file}".format(**row, file=f", {row['model']}" if "model" in row else "")
        )
    report = {**describe_search(request, search.result), "founding_epochs": founding_epochs, "finalists": rows}
    write_json(json_file, report)
    for path in draw_pareto([report], chart) if chart else ():
        tell(str(path))


def choose_finalists(front: list[ScoredShape], count: int) -> list[ScoredShape]:
    """Return up to ``count`` shapes of a front, spread evenly from the most accurate to the least."""
    if len(front) <= count:
        return front
    return [front[place * (len(front) - 1) // max(1, count - 1)] for place in range(count)]


def _run(search: ShapeSearch, executor: Executor, tell: Callable[[str], None]) -> None:
    def print_generation(progress: GenerationProgress) -> None:
        best = progress.front[0]
        tell(
            f"generation {progress.generation} of {progress.generations}: {progress.trials} trainings,"
            f" front of {len(progress.front)}, best {best.accuracy:.2%} {format_architecture(best.architecture)},"
            f" {progress.seconds:.0f} s"
        )

    try:
        search.run(executor, print_generation)
    except KeyboardInterrupt:
        if not search.result.front:
            raise
        tell("search ended early")


def _found(
    search: ShapeSearch, chosen: list[ScoredShape], dataset: Dataset, epochs: int, executor: Executor, out: Path | None
) -> list[dict[str, Any]]:
    """Return a row for each founding model, exactly counted; write the models where a directory is given."""
    evaluator, size = evaluator_factory("auto")(dataset.pool), len(dataset.pool)
    rows = []
    for scored, result in zip(chosen, search.found(chosen, epochs, executor), strict=True):
        model = result.founded.model
        correct = count_correct(evaluator, model, size)
        row = describe_shape(scored) | {
            "hash": model_hash(model).hex(),
            "validation_percent": 100 * result.validation_correct / scored.validation_size,
            "pool_percent": 100 * correct / size,
        }
        if out is not None:
            manifest = dataset.manifest
            path = out / f"{format_architecture(model.architecture)}.bnn"
            papers = Provenance(
                model_hash(model).hex(),
                dataset=manifest.name,
                dataset_id=manifest.dataset_id.hex(),
                thresholds=tuple(manifest.thresholds),
                licence=manifest.licence,
                origin=manifest.origin,
                correct=correct,
                total=size,
            )
            _make_directory(out)
            write_model(path, model, papers)
            row["model"] = str(path)
        rows.append(row)
    return rows


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Fault(f"cannot make {path}: {error.strerror}") from error
