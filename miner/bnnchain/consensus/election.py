"""Whose turn it is: the order in which data sets and families may bring the next model (paper sections 4.3, 4.4).

PROTOCOL.md, section "Election".  The order is derived from the state alone, so that every node gets the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.consensus.types import BlockKind, DatasetId

if TYPE_CHECKING:
    from bnnchain.consensus.params import Params
    from bnnchain.consensus.state import ChainState, FamilyState

FIRST_ROUND = 1


@dataclass(frozen=True, slots=True)
class Place:
    """One place of the order: what a block that fills it must bring."""

    kind: BlockKind
    dataset_id: DatasetId
    family_id: int
    family: FamilyState | None
    """None where the place founds a new family."""


def election_order(state: ChainState, params: Params) -> tuple[Place, ...]:
    """Return the places of the block after ``state``, first place first.

    Data sets below ``min_families`` open families found one, fewest families first, then oldest; then the open
    families by ``(model_count - join_offset, dataset age, family)``, which found until their population is complete
    and evolve afterwards.
    """
    ages = {dataset_id: age for age, dataset_id in enumerate(state.datasets)}
    open_families = [family for family in state.families if is_open(family, state, params)]
    wanting = []
    for dataset_id, age in ages.items():
        if sum(family.dataset_id == dataset_id for family in open_families) < params.min_families:
            ever = sum(family.dataset_id == dataset_id for family in state.families)
            wanting.append((ever, age, dataset_id))
    places = [Place(BlockKind.FOUND, dataset_id, len(state.families), None) for _, _, dataset_id in sorted(wanting)]
    for family in sorted(
        open_families, key=lambda family: (round_key(family), ages[family.dataset_id], family.family_id)
    ):
        is_complete = len(family.founders) >= params.min_population
        kind = BlockKind.EVOLVE if is_complete else BlockKind.FOUND
        places.append(Place(kind, family.dataset_id, family.family_id, family))
    return tuple(places)


def open_place_count(elapsed_s: int, params: Params) -> int:
    """Return how many places of the order may be filled ``elapsed_s`` after the parent block: at least the first."""
    return max(0, elapsed_s) // params.skip_s + 1


def round_key(family: FamilyState) -> int:
    """Return the counter that the order compares: models since joining, level with the families joined."""
    return family.model_count - family.join_offset


def join_offset(state: ChainState, params: Params) -> int:
    """Return a new family's offset: 1 minus the round at joining, the least key over open families.

    The paper's example (section 4.4): counters 5, 5 and a newcomer's 1 tie, and the next round makes them 6, 6, 2.
    """
    keys = [round_key(family) for family in state.families if is_open(family, state, params)]
    return 1 - min(keys, default=FIRST_ROUND)


def is_open(family: FamilyState, state: ChainState, params: Params) -> bool:
    """Answer whether a family may have another model in the block after ``state``.

    It closes at ``max_family_generations``, or when ``family_patience`` blocks have passed since its last model.
    """
    if family.generation >= params.max_family_generations:
        return False
    return state.height - family.latest.height < params.family_patience
