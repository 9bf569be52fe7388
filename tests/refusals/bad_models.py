"""Models that do not earn their block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from builders import (
    CLASSES,
    POOL_SIZE,
    SIDE,
    Builder,
    count,
    family_shape,
    founder,
    random_model,
)

from bnnchain.bnn.bits import BitWriter
from bnnchain.bnn.encoding import apply_flips, encode_difference, encode_model, model_hash
from bnnchain.consensus.codec import HEADER_BYTES, encode_block
from bnnchain.consensus.lineage import novel_flips
from bnnchain_kernels.model import Architecture, Dense, pack_rows, unpack_rows
from refusals import FOUNDED, best_model, body, difference_tail, evolved, founding, random_child, refused


@refused("bad-body")
def idle_with_a_model(builder: Builder) -> bytes:
    return builder.tamper(builder.idle(), model=b"\0")


@refused("bad-model-hash")
def one_flipped_bit_of_a_founder(builder: Builder) -> bytes:
    block = founding(builder)
    return builder.tamper(block, model=block.model[:20] + bytes([block.model[20] ^ 1]) + block.model[21:])


@refused("bad-model-hash", blocks=FOUNDED)
def one_flipped_bit_more_in_a_child(builder: Builder) -> bytes:
    place = builder.place()
    child = builder.child(place)
    position = np.flatnonzero(novel_flips(place.family))[:1].astype(np.int64)
    data = encode_difference(best_model(builder), apply_flips(child, position))
    return builder.tamper(builder.evolve(place, child), model=data)


@refused("bad-model-hash")
def one_flipped_bit_in_transit(builder: Builder) -> bytes:
    # Nothing is sealed again: what a relay could do to a block of somebody else.
    raw = bytearray(encode_block(founding(builder)))
    raw[HEADER_BYTES + 30] ^= 4
    return bytes(raw)


@refused("bad-shape", blocks=1)
def second_founder_of_another_shape(builder: Builder) -> bytes:
    return encode_block(builder.found(builder.place(), founder(family_shape(2), 0)))


@refused("bad-shape", blocks=3, max_family_generations=1)
def new_family_of_an_old_shape(builder: Builder) -> bytes:
    assert builder.place().family is None
    return encode_block(builder.found(builder.place(), founder(family_shape(0), 77)))


@refused("bad-architecture")
def input_that_does_not_fit(builder: Builder) -> bytes:
    model = random_model(Architecture(SIDE, SIDE, 2, (Dense(CLASSES),)), 0)
    return body(builder, founding(builder), model, encode_model(model))


@refused("bad-architecture")
def classes_that_do_not_fit(builder: Builder) -> bytes:
    model = random_model(Architecture(SIDE, SIDE, 1, (Dense(CLASSES + 1),)), 0)
    return body(builder, founding(builder), model, encode_model(model))


@refused("bad-architecture")
def unknown_layer_kind(builder: Builder) -> bytes:
    block = founding(builder)
    return builder.tamper(block, model=block.model[:6] + b"\3" + block.model[7:])


@refused("bad-architecture")
def more_layers_than_allowed(builder: Builder) -> bytes:
    block = founding(builder)
    return builder.tamper(block, model=block.model[:5] + b"\x11" + block.model[6:])


@refused("bad-model")
def threshold_past_the_fan_in(builder: Builder) -> bytes:
    model = founder(family_shape(0), 0)
    bits = np.unpackbits(np.frombuffer(encode_model(model)[12:], np.uint8), bitorder="little")
    start = model.architecture.weight_count
    bits[start : start + 6] = 1
    return builder.tamper(
        founding(builder), model=encode_model(model)[:12] + np.packbits(bits, bitorder="little").tobytes()
    )


@refused("bad-model", blocks=FOUNDED)
def negative_threshold(builder: Builder) -> bytes:
    below = 2 * int(best_model(builder).thresholds[0][0]) + 1
    return difference_tail(builder, BitWriter().count(1).rice(np.array([0])).rice(np.array([below])).count(0))


@refused("bad-model", blocks=FOUNDED)
def bias_out_of_range(builder: Builder) -> bytes:
    return difference_tail(builder, BitWriter().count(0).count(1).rice(np.array([0])).rice(np.array([(1 << 32) - 1])))


@refused("bad-model-size", max_connection_count=319)
def one_connection_too_many(builder: Builder) -> bytes:
    assert family_shape(0).weight_count == 320
    return encode_block(founding(builder))


@refused("bad-model-size", max_gate_macs=320 * POOL_SIZE - 1)
def one_gate_operation_too_many(builder: Builder) -> bytes:
    return encode_block(founding(builder))


@refused("bad-model-diff", blocks=FOUNDED)
def one_flip_too_few(builder: Builder) -> bytes:
    child = builder.child(builder.place(), flips=1)
    assert -(-family_shape(0).weight_count * 50 // 10_000) == 2
    return encode_block(builder.evolve(builder.place(), child))


@refused("bad-model-diff", blocks=FOUNDED)
def nothing_but_thresholds_changed(builder: Builder) -> bytes:
    parent = best_model(builder)
    limits = parent.thresholds[0].copy()
    limits[0] += 1
    child = replace(parent, thresholds=(limits,))
    return encode_block(builder.evolve(builder.place(), child, correct_new=POOL_SIZE))


@refused("bad-novelty", blocks=FOUNDED)
def weights_flipped_back(builder: Builder) -> bytes:
    before = best_model(builder)
    builder.extend()
    return encode_block(builder.evolve(builder.place(), before, correct_new=POOL_SIZE))


@refused("bad-novelty", blocks=FOUNDED)
def one_novel_flip_too_few(builder: Builder) -> bytes:
    before = best_model(builder)
    builder.extend()
    new = np.flatnonzero(novel_flips(builder.state.families[0]))[:1].astype(np.int64)
    return encode_block(builder.evolve(builder.place(), apply_flips(before, new), correct_new=POOL_SIZE))


@refused("bad-claim")
def founder_that_claims_one_more(builder: Builder) -> bytes:
    block = founding(builder)
    return builder.tamper(block, correct_new=block.header.correct_new + 1)


@refused("bad-claim")
def founder_that_claims_one_less(builder: Builder) -> bytes:
    block = founding(builder)
    return builder.tamper(block, correct_new=block.header.correct_new - 1)


@refused("bad-claim", blocks=FOUNDED)
def child_that_claims_one_more(builder: Builder) -> bytes:
    block = evolved(builder)
    return builder.tamper(block, correct_new=block.header.correct_new + 1)


@refused("bad-claim", blocks=FOUNDED)
def child_that_claims_one_less(builder: Builder) -> bytes:
    place = builder.place()
    for _ in range(1_000):
        child = builder.child(place)
        if count(child) > place.family.best.correct + 1:
            return encode_block(builder.evolve(place, child, correct_new=count(child) - 1))
    raise AssertionError


@refused("bad-claim")
def founder_that_claims_more_than_the_pool(builder: Builder) -> bytes:
    return builder.tamper(founding(builder), correct_new=(1 << 32) - 1)


@refused("bad-family-accuracy", min_family_acc_bp=9_000)
def founder_below_the_chains_accuracy(builder: Builder) -> bytes:
    return encode_block(founding(builder))


@refused("bad-family-diff", blocks=1)
def founder_twice(builder: Builder) -> bytes:
    return encode_block(builder.found(builder.place(), builder.state.families[0].best.model))


@refused("bad-family-diff", blocks=1)
def clone_with_permuted_neurons(builder: Builder) -> bytes:
    """The same function with its hidden neurons in another order: half the weights differ, no prediction does."""
    model = builder.state.families[0].best.model
    hidden, output = model.weights
    order = np.arange(len(hidden))[::-1]
    columns = unpack_rows(output, len(order))[:, order]
    clone = replace(
        model, weights=(hidden[order].copy(), pack_rows(columns)), thresholds=(model.thresholds[0][order].copy(),)
    )
    assert model_hash(clone) != model_hash(model)
    assert count(clone) == count(model)
    return encode_block(builder.found(builder.place(), clone))


@refused("bad-gain", blocks=FOUNDED)
def child_no_better_than_its_parent(builder: Builder) -> bytes:
    place = builder.place()
    return encode_block(builder.evolve(place, builder.child(place), correct_new=place.family.best.correct))


@refused("bad-gain", blocks=FOUNDED, min_population_acc_bp=200)
def child_one_sample_short_of_the_gain(builder: Builder) -> bytes:
    place = builder.place()
    return encode_block(
        builder.evolve(
            place, random_child(builder), correct_new=place.family.best.correct + 200 * POOL_SIZE // 10_000 - 1
        )
    )
