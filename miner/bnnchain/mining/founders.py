"""Founding models: how a family's first models come to be, whoever trains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain_kernels.evaluator import Evaluator, Samples
    from bnnchain_kernels.model import Architecture, Model

FOUNDERS: Final = ("auto", "larq", "device")


@dataclass(frozen=True, slots=True, eq=False)
class FoundedModel:
    """A trained integer model with its exact count; nothing of the training's floats is left in it."""

    model: Model
    correct: int
    """Right labels on the whole pool, counted by the evaluator on the integer model."""
    pool_size: int
    epochs: float
    """Passes over the pool made in all; the model may be from an earlier one."""
    seconds: float


@dataclass(frozen=True, slots=True)
class FoundProgress:
    """How far a training is, told after each exact count."""

    epochs: float
    max_epochs: int
    loss: float
    """Mean training loss since the last report."""
    correct: int
    best_correct: int
    pool_size: int
    seconds: float


ReportFound: TypeAlias = "Callable[[FoundProgress], None]"
ShouldStop: TypeAlias = "Callable[[], bool]"


class Founder(Protocol):
    """Trains founding models."""

    name: str
    """The name of the trainer: ``device`` or ``larq``."""

    def found(
        self,
        architecture: Architecture,
        samples: Samples,
        evaluator: Evaluator,
        *,
        seed: int,
        target_correct: int | None = None,
        max_epochs: int,
        on_progress: ReportFound | None = None,
        should_stop: ShouldStop | None = None,
    ) -> FoundedModel:
        """Return the best model seen in training, by exact count of the integer model on the whole pool.

        samples: the pool; evaluator: built from the same samples.  seed: the same seed gives the same model on one
        machine, not across machines.  target_correct: stop at the first count that reaches it, which leaves evolution
        room.  should_stop: asked at every step; when it answers True the best so far is returned.
        Raises :class:`Invalid` ``bad-architecture`` where the shape does not fit the samples, ``bad-training`` where
        the request makes no sense; :class:`Unavailable` where the trainer is not installed.
        """
        ...


def select_founder(name: str, threads: int) -> Founder:
    """Return the founder of a name; ``auto`` takes Larq where it is installed, else the device's own trainer.

    threads: of the training.  Raises :class:`Unavailable` naming the extra where Larq is asked for and not installed,
    ``unknown-founder``.
    """
    from bnnchain.mining.larq.founder import LarqFounder, is_installed
    from bnnchain.mining.straight_through import StraightThroughFounder

    if name not in FOUNDERS:
        raise Invalid("unknown-founder", name=name, known=", ".join(FOUNDERS))
    if name == "larq" or (name == "auto" and is_installed()):
        return LarqFounder(threads)
    return StraightThroughFounder()
