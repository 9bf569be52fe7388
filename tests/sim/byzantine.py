"""Peers that break the rules, each in its own way; what becomes of them is in test_byzantine.py."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from builders import transfer
from sim.node import SimNode

from bnnchain.consensus.codec import decode_block, encode_block, encode_transaction
from bnnchain.consensus.errors import BnnchainError, Unavailable
from bnnchain.consensus.fork_choice import is_better
from bnnchain.consensus.header import sign_header
from bnnchain.consensus.params import MAX_BLOCK_BYTES
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.types import BlockKind, Height
from bnnchain.net import limits
from bnnchain.net.client import NodeClient
from bnnchain.rpc.v1 import node_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Block
    from bnnchain.net.network import Network

ATTEMPT_S = 30.0
"""Between two rounds of an attack."""
FAR_AHEAD_S = 3_600
FLOOD_MESSAGES = 40
SHARE = 2
"""One in so many victims gets the other of two blocks."""


class Attacker(SimNode):
    """Follows the chain like any node and sends forged blocks to everybody it dials; ``answers`` is what it hears."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.victims: Sequence[str] = ()
        self.answers: list[str] = []

    async def start(self, dial: Sequence[str]) -> None:
        self.victims = dial
        await super().start(dial)

    async def mine(self) -> None:
        while True:
            await asyncio.sleep(ATTEMPT_S)
            for raw in self.forged(self.head):
                for victim in self.victims:
                    await self.announce(victim, raw)

    def forged(self, state: ChainState) -> list[bytes]:
        """Return what to announce on a head."""
        raise NotImplementedError

    async def announce(self, victim: str, raw: bytes) -> None:
        """Send a block to a node and note its answer: the code, the outcome, or why there was none."""
        async with NodeClient(victim, allow_plain=True) as node:
            try:
                verdict = await node.announce_block(raw)
            except BnnchainError as error:
                self.answers.append(str(error))
            else:
                self.answers.append(verdict.code or verdict.outcome.name)

    def won(self, state: ChainState, *, is_learning: bool = False, **fields: Any) -> bytes:
        """Return a block that has won its ticket honestly with some header fields wrong before the draw."""
        block = self.draft(state, is_learning=is_learning)
        assert block is not None
        return self.win(state, replace(block, header=replace(block.header, **fields)))

    def signed(self, block: Block, **fields: Any) -> bytes:
        """Return a block with header fields wrong after the draw, signed again."""
        return encode_block(replace(block, header=sign_header(replace(block.header, **fields), self.key)))


class FalseY(Attacker):
    """Claims a ticket that wins, without evaluating one."""

    def forged(self, state: ChainState) -> list[bytes]:
        block = self.draft(state, is_learning=False)
        assert block is not None
        return [self.signed(block, y=bytes(32))]


class FalseClaims(Attacker):
    """Says that a model labels one sample more right than it does."""

    def forged(self, state: ChainState) -> list[bytes]:
        block = self.draft(state, is_learning=True)
        if block is None or block.header.kind == BlockKind.IDLE:
            return []
        claimed = replace(block.header, correct_new=block.header.correct_new + 1)
        return [self.win(state, replace(block, header=claimed))]


class WrongPlace(Attacker):
    """Brings the model of a family whose turn it is not."""

    def forged(self, state: ChainState) -> list[bytes]:
        block = self.draft(state, is_learning=True)
        if block is None or block.header.kind == BlockKind.IDLE:
            return []
        elsewhere = replace(block.header, kind=BlockKind.FOUND, family_id=len(state.families) + 7)
        return [self.signed(replace(block, header=elsewhere))]


class FutureTime(Attacker):
    """Dates its blocks an hour ahead, where every place is open and no gain is asked for."""

    def forged(self, state: ChainState) -> list[bytes]:
        return [self.won(state, timestamp=self.now() + FAR_AHEAD_S)]


class PastTime(Attacker):
    """Dates its blocks before their parents."""

    def forged(self, state: ChainState) -> list[bytes]:
        return [self.won(state, timestamp=state.timestamp - 1)]


class CopiedTicket(Attacker):
    """Puts its own name on a block that it has heard of, ticket and all."""

    def forged(self, state: ChainState) -> list[bytes]:
        raw = self.store.block(state.head)
        return [self.signed(decode_block(raw), miner=public_key(self.key))] if raw else []


class CopiedModel(Attacker):
    """Steals the model of a block that it has heard of and draws tickets of its own for it."""

    tickets = 0
    """How many it has drawn."""

    def forged(self, state: ChainState) -> list[bytes]:
        raw = self.store.block(state.head)
        block = decode_block(raw) if raw else None
        if block is None or block.header.kind == BlockKind.IDLE or block.header.miner == public_key(self.key):
            return []
        parent = self.chain.state_at(block.header.previous_hash)
        stolen = self.win(parent, replace(block, header=replace(block.header, miner=public_key(self.key), nonce=0)))
        self.tickets += decode_block(stolen).header.nonce + 1
        return [stolen]


class StaleReplay(Attacker):
    """Sends old blocks again and again."""

    def forged(self, state: ChainState) -> list[bytes]:
        return [raw for _, raw in self.store.active_blocks(1, FLOOD_MESSAGES)]


class HeaderFlood(Attacker):
    """Sends blocks that nobody has signed, as many as the line takes."""

    def forged(self, state: ChainState) -> list[bytes]:
        block = self.draft(state, is_learning=False)
        assert block is not None
        return [encode_block(replace(block, header=replace(block.header, nonce=n))) for n in range(FLOOD_MESSAGES)]


class OrphanFlood(Attacker):
    """Sends signed blocks on parents that do not exist: nobody is to blame, and nobody may be kept busy."""

    def forged(self, state: ChainState) -> list[bytes]:
        block = self.draft(state, is_learning=False)
        assert block is not None
        parents = [bytes([n]) * 32 for n in range(1, FLOOD_MESSAGES)]
        return [self.signed(block, previous_hash=parent, height=Height(state.height + 9)) for parent in parents]


class Oversize(Attacker):
    """Sends a message above gRPC's limit, then a block above the chain's."""

    def forged(self, state: ChainState) -> list[bytes]:
        return [bytes(limits.MAX_MESSAGE_BYTES + 1), bytes(MAX_BLOCK_BYTES + 1)]


class Junk(Attacker):
    """Sends transactions that nobody has signed."""

    async def mine(self) -> None:
        while True:
            await asyncio.sleep(ATTEMPT_S)
            forged = encode_transaction(replace(transfer(nonce=0), signature=bytes(64)))  # type: ignore[arg-type]
            for victim in self.victims:
                async with NodeClient(victim, allow_plain=True) as node:
                    with suppress(Unavailable):
                        self.answers.append((await node.announce_transaction(forged)).code)


class Equivocator(Attacker):
    """Signs two blocks on one parent and shows each to half of the others, as often as it wins."""

    pairs = 0

    async def mine(self) -> None:
        while True:
            await asyncio.sleep(ATTEMPT_S)
            state = self.head
            first = self.won(state)
            second = self.won(state, timestamp=decode_block(first).header.timestamp + 1)
            self.pairs += 1
            for place, victim in enumerate(self.victims):
                await self.announce(victim, second if place % SHARE else first)
            await asyncio.sleep(10 * ATTEMPT_S)


class SelfishMiner(Attacker):
    """Keeps its blocks to itself until the others have nearly caught up (Eyal and Sirer, 2013)."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._private: list[bytes] = []
        self._tip: ChainState = self.head

    async def mine(self) -> None:
        while True:
            await self._release()
            state = self._tip
            if await self._is_woken(self.wait_s(state)):
                continue
            raw = self.seal(state, is_learning=False)
            assert raw is not None
            self._tip = self.chain.validator.judge(state, raw, self.now()).state
            self._private.append(raw)
            self.mined_count += 1

    async def _release(self) -> None:
        """Publish what is needed to stay ahead; give up where the others are ahead."""
        if self.head.weight > self._tip.weight or not self._private:
            self._private, self._tip = [], self.head
            return
        lead = self._tip.height - self.head.height
        is_raced = decode_block(self._private[0]).header.previous_hash != self.head.head
        if is_raced and lead <= 1:
            assert self.network is not None
            for raw in self._private:
                await self.network.submit_block(raw)
            self._private = []


class Withholder(Attacker):
    """Boasts of its blocks and hands none of them out; no pools either."""

    async def mine(self) -> None:
        await SimNode.mine(self)

    async def start(self, dial: Sequence[str]) -> None:
        await super().start(())

    def make_network(self, dial: Sequence[str], node_id: bytes) -> Network:
        network = super().make_network(dial, node_id)

        async def refuse(*_: object) -> Any:
            self.answers.append("refused")
            raise Unavailable("not today")

        for name in ("_block", "_blocks", "_headers", "_dataset_chunks"):
            setattr(network._server, name, refuse)
        return network


class Boaster(Withholder):
    """Claims a chain far heavier than any there is."""

    def make_network(self, dial: Sequence[str], node_id: bytes) -> Network:
        network = super().make_network(dial, node_id)
        server = network._server
        honest = server._snapshot

        async def boast() -> Any:
            return [replace(event, weight=1 << 200, block_id=bytes([7]) * 32) for event in (await honest())[:1]]

        server._snapshot = boast  # type: ignore[method-assign]
        return network


class ChunkForger(Attacker):
    """Hands out chunks of pools with one bit wrong."""

    async def mine(self) -> None:
        await SimNode.mine(self)

    def make_network(self, dial: Sequence[str], node_id: bytes) -> Network:
        network = super().make_network(dial, node_id)
        honest = network._server._dataset_chunks

        async def forge(request: pb.ChunkRange) -> list[pb.RawChunk]:
            chunks = await honest(request)
            self.answers.append("forged")
            return [pb.RawChunk(raw=each.raw[:-1] + bytes([each.raw[-1] ^ 1])) for each in chunks]

        network._server._dataset_chunks = forge  # type: ignore[method-assign]
        return network


class DoubleSpender(Attacker):
    """Overtakes the chain from one block ahead, in secret, after ``depth`` confirmations (Rosenfeld, 2014)."""

    depth = 2
    give_up_blocks = 7
    """An attack that is so far behind is given up: at a quarter of the power it would succeed once in 2,000."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.attempts = self.successes = 0

    async def mine(self) -> None:
        while True:
            fork = self.head
            first = await self._secret_block(fork)
            if first is not None:
                self.successes += await self._race(fork, first)
                self.attempts += 1

    async def _race(self, fork: ChainState, first: bytes) -> bool:
        branch, tip = [first], self.chain.validator.judge(fork, first, self.now()).state
        while True:
            if self.head.height - fork.height >= self.depth:
                if is_better(tip, self.head):
                    break
                if self.head.height - tip.height >= self.give_up_blocks:
                    return False
            raw = await self._secret_block(tip)
            if raw is not None:
                branch.append(raw)
                tip = self.chain.validator.judge(tip, raw, self.now()).state
        assert self.network is not None
        for raw in branch:
            await self.network.submit_block(raw)
        return True

    async def _secret_block(self, state: ChainState) -> bytes | None:
        """Return a block on ``state``, or None where the others were faster."""
        if await self._is_woken(self.wait_s(state)):
            return None
        return self.seal(state, is_learning=False)
