"""What becomes of peers that break the rules, and that the honest ones never notice much of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest
from sim import byzantine
from sim.learner import Learner
from sim.node import NodeOptions
from sim.scale import BLOCKS, SEED, replay, say
from sim.world import INTERVAL_S, TICKETS_PER_BLOCK, World, assert_sound

from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.types import Equivocation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sim.byzantine import Attacker
    from sim.node import SimNode

HONEST, WARM_BLOCKS, ATTACKED_BLOCKS = 4, 3, 8
POWER = TICKETS_PER_BLOCK / INTERVAL_S
BANNED = "banned for"
QUARTER = 0.25

Kind = TypeVar("Kind", bound="Attacker")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@contextmanager
def attacked(
    kind: type[Kind], *, share: float = QUARTER, learn: float = 1.0, honest_count: int = HONEST
) -> Iterator[tuple[World, Kind]]:
    """Make a world of honest nodes, then let an attacker with this share of the power in."""
    say(replay(SEED, "test_byzantine.py"))
    honest = [NodeOptions(POWER * (1 - share) / honest_count) for _ in range(honest_count)]
    with World(SEED, honest, learner=Learner(share=learn, steps=20)) as world:
        world.run_blocks(WARM_BLOCKS)
        attacker = world.add(NodeOptions(POWER * share), kind)
        assert isinstance(attacker, kind)
        world.start(attacker, [node.address for node in world.honest])
        yield world, attacker
        world.blocks_to_converge()
        assert_sound(world)
        for node in world.honest:
            assert not any(is_banned(node, other) for other in world.honest)


def is_banned(judge: SimNode, peer: SimNode) -> bool:
    """Answer whether a node leaves another alone, as a guest or as a host."""
    assert judge.network is not None
    conduct = judge.network._server._conduct
    return conduct.is_banned(peer.host) or conduct.is_banned(peer.address)


def is_banned_everywhere(world: World, peer: SimNode) -> bool:
    return all(is_banned(node, peer) for node in world.honest)


def blocks_of(world: World, miner: SimNode) -> int:
    """Return how many blocks of the honest chain a node has mined."""
    store = world.honest[0].store
    headers = [decode_block(raw).header for _, raw in store.active_blocks(1, 10**6)]
    return sum(header.miner == public_key(miner.key) for header in headers)


def test_a_false_y_is_banned_at_once() -> None:
    with attacked(byzantine.FalseY) as (world, attacker):
        world.run_until(lambda: is_banned_everywhere(world, attacker), 60)
        world.run_s(5)  # the last answer is on its way
        assert attacker.answers.count("bad-lottery-value") == HONEST
        assert blocks_of(world, attacker) == 0


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (byzantine.FalseClaims, "bad-claim"),
        (byzantine.WrongPlace, "bad-place"),
        (byzantine.PastTime, "time-too-old"),
        (byzantine.HeaderFlood, "bad-header-signature"),
    ],
)
def test_forgeries_are_refused_by_code_and_banned_after_ten(kind: type[Attacker], code: str) -> None:
    with attacked(kind) as (world, attacker):
        world.run_until(lambda: is_banned_everywhere(world, attacker), 3_600)
        world.run_s(5)  # the last answers are on their way
        assert attacker.answers.count(code) == 10 * HONEST
        assert blocks_of(world, attacker) == 0


def test_a_flood_of_orphans_is_nobodys_fault_and_changes_nothing() -> None:
    with attacked(byzantine.OrphanFlood) as (world, attacker):
        world.run_blocks(ATTACKED_BLOCKS)
        assert set(attacker.answers) <= {"UNAVAILABLE"}
        assert not any(is_banned(node, attacker) for node in world.honest)
        assert all(node.store.block_count() <= world.height + 2 for node in world.honest)


def test_blocks_from_the_future_wait_and_never_count() -> None:
    with attacked(byzantine.FutureTime) as (world, attacker):
        world.run_blocks(ATTACKED_BLOCKS)
        assert set(attacker.answers) == {"time-too-new"}
        assert not any(is_banned(node, attacker) for node in world.honest)
        assert blocks_of(world, attacker) == 0


def test_replays_of_old_blocks_are_known_and_harmless() -> None:
    with attacked(byzantine.StaleReplay) as (world, attacker):
        world.run_blocks(ATTACKED_BLOCKS)
        assert set(attacker.answers) == {"KNOWN"}
        assert len(attacker.answers) > HONEST * ATTACKED_BLOCKS


def test_oversize_messages_reach_nobody_and_oversize_blocks_are_banned() -> None:
    with attacked(byzantine.Oversize) as (world, attacker):
        world.run_until(lambda: is_banned_everywhere(world, attacker), 3_600)
        world.run_s(5)
        assert attacker.answers.count("bad-block-size") == 10 * HONEST
        assert any("too large" in answer for answer in attacker.answers)


def test_unsigned_transactions_are_banned() -> None:
    with attacked(byzantine.Junk) as (world, attacker):
        world.run_until(lambda: is_banned_everywhere(world, attacker), 3_600)
        assert set(attacker.answers) == {"bad-tx-signature"}
        assert not any(len(node.mempool) for node in world.honest)


def test_a_copied_ticket_is_banned_at_once() -> None:
    with attacked(byzantine.CopiedTicket) as (world, attacker):
        world.run_until(lambda: is_banned_everywhere(world, attacker), 60)
        world.run_s(5)  # the last answer is on its way
        assert attacker.answers.count("bad-lottery-value") == HONEST
        assert blocks_of(world, attacker) == 0


def test_a_copied_model_costs_a_lottery_and_comes_too_late() -> None:
    with attacked(byzantine.CopiedModel) as (world, attacker):
        world.run_until(lambda: attacker.answers.count("ACCEPTED") >= 6 * HONEST, 36_000)
        thefts = attacker.answers.count("ACCEPTED") / HONEST
        say(f"{thefts:.0f} thefts took {attacker.tickets} tickets; none is on the chain")
        assert attacker.tickets / thefts > TICKETS_PER_BLOCK / 5  # a whole lottery each, and luck
        assert blocks_of(world, attacker) == 0


def test_an_equivocators_reward_is_slashed_and_its_reporter_paid() -> None:
    with attacked(byzantine.Equivocator) as (world, attacker):
        reported = 0

        def is_slashed() -> bool:
            nonlocal reported
            store = world.honest[0].store
            raws = [raw for _, raw in store.active_blocks(1, 10**6)]
            bodies = [transaction.body for raw in raws for transaction in decode_block(raw).transactions]
            reported = sum(isinstance(body, Equivocation) for body in bodies)
            return reported > 0

        world.run_until(is_slashed, 100_000)
        key = public_key(attacker.key)
        waiting = [coinbase.owner for coinbase in world.honest[0].head.coinbases]
        say(f"{attacker.pairs} pairs signed, {blocks_of(world, attacker)} of them on the chain, {reported} slashed")
        assert blocks_of(world, attacker) >= reported > 0
        mature = world.honest[0].head.ledger.account(key).balance // world.spec.params_at(1).idle_subsidy
        assert waiting.count(key) + mature <= blocks_of(world, attacker) - reported


def test_selfish_mining_does_not_pay_at_a_quarter_of_the_power() -> None:
    """At 25 % it pays only where the attacker wins more than half of all races; it starts every race late."""
    with attacked(byzantine.SelfishMiner, learn=0.0) as (world, attacker):
        before = world.height
        world.run_blocks(2 * BLOCKS)
        world.blocks_to_converge()
        mined = world.height - before
        share = blocks_of(world, attacker) / mined
        say(f"selfish miner: {share:.3f} of {mined} blocks with {QUARTER} of the power")
        assert share < QUARTER + 2 * (QUARTER * (1 - QUARTER) / mined) ** 0.5


def test_withheld_blocks_never_count() -> None:
    with attacked(byzantine.Withholder) as (world, attacker):
        for node in world.honest:
            world.redial(node, [attacker, *(other for other in world.honest if other is not node)])
        world.run_until(lambda: attacker.mined_count > 1, 36_000)
        world.run_blocks(ATTACKED_BLOCKS)
        assert "refused" in attacker.answers
        assert blocks_of(world, attacker) == 0


def test_a_claim_of_great_weight_leads_nobody_astray() -> None:
    with attacked(byzantine.Boaster) as (world, attacker):
        for node in world.honest:
            world.redial(node, [attacker, *(other for other in world.honest if other is not node)])
        world.run_blocks(ATTACKED_BLOCKS)
        assert "refused" in attacker.answers
        assert blocks_of(world, attacker) == 0


def test_an_eclipsed_node_needs_one_honest_peer() -> None:
    with attacked(byzantine.Withholder, share=0.1) as (world, attacker):
        others = [world.add(NodeOptions(power=0), byzantine.Boaster) for _ in range(3)]
        for other in others:
            world.start(other, ())
        victim = world.add(NodeOptions(power=0))
        world.start(victim, [attacker.address, *(other.address for other in others)])
        world.run_blocks(ATTACKED_BLOCKS)
        assert victim.head.height == 0  # nothing but promises
        world.redial(victim, [attacker, *others, world.honest[0]])
        world.run_until(lambda: victim.head.head == world.honest[0].head.head, 600)


@pytest.mark.parametrize("kind", [byzantine.ChunkForger, byzantine.Withholder])
def test_a_newcomer_gets_its_pool_from_whoever_is_honest(kind: type[Attacker]) -> None:
    with attacked(kind) as (world, attacker):
        newcomer = world.add(NodeOptions(power=0, has_dataset=False))
        world.start(newcomer, [attacker.address])
        world.run_until(lambda: len(attacker.answers) > 0, 600)
        assert newcomer.chain.missing_datasets()
        if kind is byzantine.ChunkForger:
            world.run_until(lambda: is_banned(newcomer, attacker), 600)
        world.redial(newcomer, [attacker, world.honest[0]])
        world.run_until(lambda: not newcomer.chain.missing_datasets(), 600)
        world.run_until(lambda: newcomer.head.height >= world.height - 1, 600)
