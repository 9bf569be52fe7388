"""Whose turn it is: the order in which data sets and families may bring the next model (paper sections 4.3, 4.4).

PROTOCOL.md, section "Election".  The order is derived from the state alone, so that every node gets the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnnchain.consensus.types import BlockKind, DatasetId

if TYPE_CHECKING:
    from collections.abc import Collection

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
    and evolve afterwards.  A data set that has wanted a family for ``family_patience`` blocks in vain comes last.
    Ruling: else data on which nothing can be learned would stand before all others for ever.
    """
    open_families = [family for family in state.families if is_open(family, state, params)]
    wanting = _fewest_families_first(state, wanting_datasets(state, params))
    patient = [key for key in wanting if state.datasets[key].unfilled_blocks < params.family_patience]
    places = [_new_family(state, dataset_id) for dataset_id in patient]
    ages = {dataset_id: age for age, dataset_id in enumerate(state.datasets)}
    for family in sorted(
        open_families, key=lambda family: (round_key(family), ages[family.dataset_id], family.family_id)
    ):
        is_complete = len(family.founders) >= params.min_population
        kind = BlockKind.EVOLVE if is_complete else BlockKind.FOUND
        places.append(Place(kind, family.dataset_id, family.family_id, family))
    return (*places, *(_new_family(state, dataset_id) for dataset_id in wanting if dataset_id not in patient))


def wanting_datasets(state: ChainState, params: Params) -> list[DatasetId]:
    """Return the active data sets with fewer than ``min_families`` open families, oldest first."""
    homes = [family.dataset_id for family in state.families if is_open(family, state, params)]
    return [key for key, entry in state.datasets.items() if entry.is_active and homes.count(key) < params.min_families]


def open_places(state: ChainState, elapsed_s: int, params: Params) -> tuple[Place, ...]:
    """Return the places that may be filled ``elapsed_s`` after the parent block, first place first: at least one.

    Once ``relief_s`` have passed, a new family on the data set with fewest is one of them, wanted or not.  Ruling:
    where blocks without a model are forbidden, a family at its best would halt the chain.
    """
    places = election_order(state, params)[: elapsed_s // params.skip_s + 1]
    if not params.relief_s or elapsed_s < params.relief_s:
        return places
    active = [dataset_id for dataset_id, entry in state.datasets.items() if entry.is_active]
    relief = _new_family(state, _fewest_families_first(state, active)[0])
    return places if relief in places else (*places, relief)


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

    It closes at ``max_family_generations``, or when ``family_patience`` blocks have passed since its last model, those
    not counted in which its data set was suspended and it waited.
    """
    if family.generation >= params.max_family_generations or not state.datasets[family.dataset_id].is_active:
        return False
    return state.height - family.latest.height - family.waited_blocks < params.family_patience


def rejoined(before: ChainState, after: ChainState, returned: Collection[DatasetId], params: Params) -> ChainState:
    """Return ``after`` with the families of data sets that were suspended level with the round, as newcomers are.

    Ruling: else they would fill every block until their counters had caught up.
    """
    offset = join_offset(before, params)
    families = list(after.families)
    for family in after.families:
        if family.dataset_id in returned:
            waited = family.waited_blocks + after.height - before.datasets[family.dataset_id].since_height
            level = family.model_count - 1 + offset
            families[family.family_id] = replace(family, join_offset=level, waited_blocks=waited)
    return replace(after, families=tuple(families))


def _new_family(state: ChainState, dataset_id: DatasetId) -> Place:
    return Place(BlockKind.FOUND, dataset_id, len(state.families), None)


def _fewest_families_first(state: ChainState, dataset_ids: Collection[DatasetId]) -> list[DatasetId]:
    """Return the data sets by the families they ever had, fewest first, the older of equals first."""
    return sorted(dataset_ids, key=lambda wanted: sum(family.dataset_id == wanted for family in state.families))
