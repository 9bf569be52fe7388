from __future__ import annotations

import hashlib
import struct
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from builders import Builder, family_shape, make_spec, open_chain, random_model, ticket_value, transfer
from hypothesis import given
from hypothesis import strategies as st
from strategies import architectures

if TYPE_CHECKING:
    from pathlib import Path

from bnnchain.bnn.encoding import flip_positions
from bnnchain.bnn.zoo import ZOO
from bnnchain.consensus import lottery
from bnnchain.consensus.codec import decode_block, encode_block
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.header import core_hash
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import BlockId, DatasetId
from bnnchain.wire import tagged_hash
from bnnchain_kernels.model import Architecture, Conv3x3, Dense

SEED = bytes(range(32))
PARENT, DATASET = BlockId(b"\1" * 32), DatasetId(b"\2" * 32)


@given(st.integers(1, 1 << 64))
def test_draws_are_below_their_bound(bound: int) -> None:
    stream = lottery.counter_stream(SEED)
    assert all(0 <= lottery.draw_below(stream, bound) < bound for _ in range(8))


def test_words_past_the_last_whole_multiple_are_dropped() -> None:
    bound = (1 << 63) + 1
    assert lottery.draw_below(iter([bound, (1 << 64) - 1, 5]), bound) == 5
    assert lottery.draw_below(iter([bound - 1]), bound) == bound - 1


@given(st.integers(1, 40), st.data())
def test_distinct_draws_are_distinct_in_range_and_the_same_again(bound: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, bound))
    drawn = lottery.draw_distinct(lottery.counter_stream(SEED), bound, count)
    assert len(set(drawn)) == len(drawn) == count
    assert all(0 <= value < bound for value in drawn)
    assert drawn == lottery.draw_distinct(lottery.counter_stream(SEED), bound, count)


def test_draws_are_uniform() -> None:
    """Chi-squared over 16 bins stays within what chance does (p > 1e-6); the seed is fixed, so this never flickers."""
    stream = lottery.counter_stream(SEED)
    counts = Counter(lottery.draw_below(stream, 16) for _ in range(16_000))
    assert sum((counts[value] - 1_000) ** 2 / 1_000 for value in range(16)) < 58


def test_samples_are_uniform_over_parents() -> None:
    hits = np.zeros(50, int)
    for number in range(400):
        indices = lottery.sample_indices(BlockId(number.to_bytes(32, "little")), DATASET, 50, 10)
        hits[indices] += 1
    assert sum((hits - 80) ** 2 / 80) < 120


def test_samples_are_distinct_and_belong_to_parent_and_data_set() -> None:
    indices = lottery.sample_indices(PARENT, DATASET, 1_000, 64)
    assert indices.dtype == np.int32
    assert len(set(indices.tolist())) == 64
    assert indices.tolist() == lottery.sample_indices(PARENT, DATASET, 1_000, 64).tolist()
    assert indices.tolist() != lottery.sample_indices(PARENT, DatasetId(b"\3" * 32), 1_000, 64).tolist()
    assert indices.tolist() != lottery.sample_indices(BlockId(b"\3" * 32), DATASET, 1_000, 64).tolist()


@pytest.mark.parametrize("pool_size", [1, 63, 64])
def test_a_pool_no_larger_than_n_eval_is_taken_whole(pool_size: int) -> None:
    assert lottery.sample_indices(PARENT, DATASET, pool_size, 64).tolist() == list(range(pool_size))


@given(architectures(), st.integers(1, 5), st.binary(min_size=32, max_size=32))
def test_a_mutant_differs_in_every_layer_by_exactly_ticket_flips(shape: Architecture, flips: int, seed: bytes) -> None:
    base = random_model(shape, 1)
    positions = flip_positions(base, lottery.mutant(base, seed, flips))
    assert sorted(lottery.mutant_flips(shape, seed, flips)) == positions.tolist()
    start = 0
    for layer in shape.geometry:
        inside = (positions >= start) & (positions < start + layer.weight_count)
        assert np.count_nonzero(inside) == min(flips, layer.weight_count)
        start += layer.weight_count


def test_every_weight_of_a_layer_is_drawn_equally_often() -> None:
    shape = Architecture(6, 6, 1, (Conv3x3(2, pool=True), Dense(4)))
    drawn = Counter(lottery.mutant_flips(shape, number.to_bytes(32, "little"), 1)[0] for number in range(3_600))
    assert set(drawn) == set(range(18))
    assert sum((drawn[position] - 200) ** 2 / 200 for position in range(18)) < 60


def independent_hash(tag: str, *parts: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(b"bnnchain/" + tag.encode()).digest() + b"".join(parts)).digest()


def independent_words(seed: bytes) -> list[int]:
    blocks = b"".join(independent_hash("stream", seed, struct.pack("<Q", counter)) for counter in range(64))
    return list(struct.unpack(f"<{len(blocks) // 8}Q", blocks))


def test_a_ticket_is_what_the_protocol_says_word_by_word() -> None:
    """Section 6 once more, from its text alone; ``tests/vectors`` keeps the bytes."""
    core, nonce, shape = bytes(range(32)), 7, family_shape(1)
    seed = independent_hash("ticket", core, struct.pack("<Q", nonce))
    assert lottery.ticket_seed(core, nonce) == seed
    words = iter(independent_words(independent_hash("mutant", seed)))
    first = next(words) % 27
    second = next(word % 27 for word in words if word % 27 != first)
    third = next(words) % 48
    fourth = next(word % 48 for word in words if word % 48 != third)
    assert lottery.mutant_flips(shape, seed, 2) == [first, second, 27 + third, 27 + fourth]
    logits = np.arange(-6, 6, dtype=np.int32).reshape(3, 4)
    y = independent_hash("lottery", seed, independent_hash("logits", struct.pack("<12i", *range(-6, 6))))
    assert lottery.lottery_value(seed, logits) == y
    eval_words = independent_words(independent_hash("eval", PARENT, DATASET))
    drawn = list(dict.fromkeys(word % 1_000 for word in eval_words))[:64]
    assert lottery.sample_indices(PARENT, DATASET, 1_000, 64).tolist() == drawn


def test_logits_are_hashed_image_by_image_whatever_their_memory_order() -> None:
    logits = np.arange(12, dtype=np.int32).reshape(3, 4)
    y = lottery.lottery_value(SEED, logits)
    assert lottery.lottery_value(SEED, np.asfortranarray(logits)) == y
    assert lottery.lottery_value(SEED, logits.astype(">i4")) == y
    assert lottery.lottery_value(SEED, logits.T) != y


@given(st.integers(0, (1 << 256) - 1), st.integers(0, (1 << 256) - 1))
def test_winning_is_one_exact_inequality(y: int, target: int) -> None:
    shape = family_shape(0)
    expected = y * 131_072 < target * (shape.mac_count + 98_304)
    assert lottery.is_winning(y.to_bytes(32, "little"), shape, target) == expected


def test_the_bound_itself_loses() -> None:
    shape = Architecture(1, 2, 1, (Dense(2), Dense(2)))
    assert shape.mac_count == 8
    target = 1 << 100
    bound = 98_312 << 83
    assert not lottery.is_winning(bound.to_bytes(32, "little"), shape, target)
    assert lottery.is_winning((bound - 1).to_bytes(32, "little"), shape, target)


def test_a_win_takes_the_same_work_on_every_base() -> None:
    """The odds of a ticket over its cost are the same for the smallest and the largest network of the zoo."""
    target = 1 << 230
    work = []
    for base in ZOO.values():
        least, most = 0, 1 << 256
        while most - least > 1:  # The first value that loses, by what the rule says alone.
            middle = (least + most) // 2
            if lottery.is_winning(middle.to_bytes(32, "little"), base, target):
                least = middle
            else:
                most = middle
        work.append((base.mac_count + 98_304) * (1 << 256) // most)
    assert max(work) - min(work) <= 1


def test_the_ticket_is_bound_to_everything_but_itself() -> None:
    builder = Builder(genesis_state(make_spec()))
    header = builder.found(builder.place()).header
    core = core_hash(header)
    for field, value in (
        ("previous_hash", b"\1" * 32), ("miner", b"\1" * 32), ("body_root", b"\1" * 32), ("model_hash", b"\1" * 32),
        ("timestamp", header.timestamp + 1), ("correct_new", 0), ("target", 5), ("family_id", 9), ("height", 2),
    ):  # fmt: skip
        assert core_hash(replace(header, **{field: value})) != core, field
    for field, value in (("nonce", 9), ("y", b"\1" * 32), ("signature", b"\1" * 64)):
        assert core_hash(replace(header, **{field: value})) == core, field


CLOSED = {"is_lottery_open": 0, "block_interval_s": 60}
HARD = 1 << 252
"""A ticket on the spec's tiny model, whose cost is nearly all overhead, wins about one time in twelve then."""


def test_a_mined_block_is_accepted_and_a_loser_refused(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db", make_spec(initial_target=HARD, **CLOSED))
    builder = Builder(chain)
    for _ in range(6):
        timestamp = chain.head.timestamp + 75
        draft = builder.next(timestamp=timestamp)
        losers = 0
        for nonce in range(40):
            header = replace(draft.header, nonce=nonce)
            y = ticket_value(chain.head, header)
            base = (chain.spec.model if header.kind == 1 else chain.head.families[0].best.model).architecture
            if not lottery.is_winning(y, base, header.target):
                losers += 1
                with pytest.raises(Invalid, match="lottery-lost"):
                    chain.import_block(builder.tamper(draft, nonce=nonce, timestamp=timestamp))
        assert losers
        assert chain.import_block(encode_block(builder.mine(draft))).is_head
    assert chain.head.height == 6
    targets = [decode_block(raw).header.target for _, raw in chain.store.active_blocks(1, 99)]
    assert len(set(targets)) > 1
    assert chain.head.weight == sum((1 << 256) // (target + 1) for target in targets)


def test_a_thief_needs_a_lottery_of_his_own() -> None:
    """A gossiped model under other transactions or another miner has another core, so the found y is worth nothing."""
    builder = Builder(genesis_state(make_spec(initial_target=HARD, **CLOSED)))
    mined = builder.mine(builder.next(timestamp=builder.state.timestamp + 60))
    stolen = builder.seal(mined, transactions=[transfer()], nonce=mined.header.nonce, y=mined.header.y)
    with pytest.raises(Invalid, match="bad-lottery-value"):
        builder.after(builder.state, stolen)


@pytest.mark.parametrize(
    ("pool_size", "count"), [(65, 64), (1_797, 1_024), (60_000, 1_024), (3, 1), ((1 << 24) - 3, 9)]
)
def test_samples_are_those_that_single_words_would_draw(pool_size: int, count: int) -> None:
    for number in range(8):
        parent = BlockId(number.to_bytes(32, "little"))
        stream = lottery.counter_stream(tagged_hash("eval", parent, DATASET))
        drawn = lottery.sample_indices(parent, DATASET, pool_size, count)
        assert drawn.dtype == np.int32
        assert drawn.tolist() == lottery.draw_distinct(stream, pool_size, count)
