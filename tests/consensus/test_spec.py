from __future__ import annotations

from dataclasses import replace

import pytest
from builders import ALICE, COINS, GENESIS_TIME, Builder, family_shape, make_params, make_spec, random_model

from bnnchain.consensus.codec import encode_header
from bnnchain.consensus.params import MAX_MONEY
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.spec import MAX_ALLOCATIONS, MAX_SPEC_BYTES, ChainSpec, decode_spec, encode_spec
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import MAX_TARGET, Account, Amount, BlockKind
from bnnchain.wire import ZERO_HASH, tagged_hash
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import Architecture, Dense

HARDER = make_params(min_population_acc_bp=500)


def test_a_spec_comes_back_with_its_genesis() -> None:
    spec = make_spec((5, HARDER), (9, make_params()))
    again = decode_spec(encode_spec(spec))
    assert encode_spec(again) == encode_spec(spec)
    assert again.genesis_id == spec.genesis_id
    assert (again.name, again.chain_id, again.schedule, again.allocations) == (
        spec.name,
        spec.chain_id,
        spec.schedule,
        spec.allocations,
    )
    assert again.model_hash == spec.model_hash


def test_genesis_commits_to_every_byte_of_the_spec() -> None:
    spec = make_spec()
    header = spec.genesis_header
    assert header.body_root == tagged_hash("spec", encode_spec(spec))
    assert (header.height, header.kind, header.previous_hash) == (0, BlockKind.IDLE, ZERO_HASH)
    assert len(encode_header(header)) == 439
    others = [
        replace(spec, name="other"),
        replace(spec, chain_id=8),
        replace(spec, genesis_time=GENESIS_TIME + 1),
        replace(spec, initial_target=5),
        replace(spec, schedule=((0, HARDER),)),
        replace(spec, model=random_model(family_shape(0), 1)),
        replace(spec, allocations=spec.allocations[:1]),
        replace(spec, dataset=replace(spec.dataset, licence="MIT")),
    ]
    assert len({other.genesis_id for other in (spec, *others)}) == len(others) + 1


def test_the_genesis_state_holds_the_allocations() -> None:
    state = genesis_state(make_spec())
    assert state.ledger.account(public_key(ALICE)) == Account(Amount(COINS), 0)
    assert state.supply == 2 * COINS == state.ledger.total()
    assert (state.height, state.weight, state.families, state.coinbases) == (0, 0, (), ())


def test_parameters_change_at_their_height() -> None:
    spec = make_spec((5, HARDER))
    assert [spec.params_at(height) == HARDER for height in (0, 4, 5, 10**9)] == [False, False, True, True]


def test_a_scheduled_change_is_what_the_next_block_is_judged_by() -> None:
    builder = Builder(genesis_state(make_spec((3, make_params(is_idle_allowed=0)))))
    builder.extend(2, kind=BlockKind.IDLE)
    with pytest.raises(Invalid, match="bad-kind"):
        builder.after(builder.state, builder.idle())
    builder.extend()
    assert builder.state.height == 3


KEY = bytes(31)


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": ()},
        {"schedule": ((1, HARDER),)},
        {"schedule": ((0, HARDER), (0, HARDER))},
        {"schedule": ((0, HARDER), (7, HARDER), (5, HARDER))},
        {"schedule": tuple((height, HARDER) for height in range(65))},
        {"allocations": ((KEY + b"\2", 1), (KEY + b"\1", 1))},
        {"allocations": ((KEY + b"\1", 1), (KEY + b"\1", 1))},
        {"allocations": ((KEY, 1),)},
        {"allocations": ((KEY + b"\1", MAX_MONEY), (KEY + b"\2", 1))},
        {"allocations": tuple((index.to_bytes(32, "big"), 0) for index in range(MAX_ALLOCATIONS + 1))},
        {"allocations": ((KEY + b"\1", -1), (KEY + b"\2", 1))},
        {"schedule": ((0, HARDER), (1 << 64, HARDER))},
        {"schedule": ((0, HARDER), (5, replace(HARDER, is_lottery_open=0)))},
        {"schedule": ((0, HARDER), (5, replace(HARDER, block_interval_s=61)))},
        {"genesis_time": -1},
        {"genesis_time": 1 << 64},
        {"genesis_time": 1.5},
        {"chain_id": -1},
        {"chain_id": 1 << 32},
        {"chain_id": "7"},
        {"name": ""},
        {"name": "a" * 65},
        {"name": "\x1b[2J"},
        {"name": "\ud800"},
        {"name": 5},
        {"initial_target": 0},
        {"initial_target": MAX_TARGET + 1},
        {"model": random_model(Architecture(6, 6, 2, (Dense(4),)), 0)},
        {"model": random_model(Architecture(6, 6, 1, (Dense(3),)), 0)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_spec_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Invalid, match="bad-spec"):
        replace(make_spec(), **change)


def mutated(spec: ChainSpec, position: int, value: bytes) -> bytes:
    data = encode_spec(spec)
    return data[:position] + value + data[position + len(value) :]


def test_bytes_that_are_no_spec_are_refused() -> None:
    spec = make_spec()
    data = encode_spec(spec)
    for bad, code in (
        (data[:-1], "bad-encoding"),
        (data + b"\0", "bad-encoding"),
        (mutated(spec, 0, b"\2"), "bad-spec"),
        (data.ljust(MAX_SPEC_BYTES + 1, b"\0"), "bad-spec"),
        # Behind version, name ("tiny"), chain id, time and target: the number of parameter sets.
        (mutated(spec, 2 + 2 + 4 + 4 + 8 + 32, b"\x41"), "bad-spec"),
    ):
        with pytest.raises(Invalid) as caught:
            decode_spec(bad)
        assert caught.value.code == code
    count = len(spec.allocations)
    allocations = len(data) - 40 * count - 1
    with pytest.raises(Invalid, match="too many allocations"):
        decode_spec(data[:allocations] + b"\x81\x20")
