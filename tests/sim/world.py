"""A world of simulated nodes: one seed, one virtual clock, one wire.

    with World(seed=7, nodes=12, weather=Weather(loss=0.2)) as world:
        world.run_blocks(50)
        world.partition(0.5)
        world.run_blocks(20)
        world.heal()
        assert world.blocks_to_converge() <= 3

The same seed gives the same tip on every machine and every run.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from builders import make_spec, private_key
from sim.learner import Learner
from sim.loop import SimLoop
from sim.network import Weather, Wire
from sim.node import Memo, NodeOptions, SimNode
from sim.scale import LOG_LEVEL, say

from bnnchain.chain.verify import verify_chain
from bnnchain.consensus.params import preset
from bnnchain.consensus.types import MAX_TARGET, Height
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from bnnchain.consensus.spec import ChainSpec
    from bnnchain.consensus.types import BlockId

Kind = TypeVar("Kind", bound=SimNode)

INTERVAL_S = 60
TICKETS_PER_BLOCK = 32
"""How many real tickets the whole world draws for a block at its first target."""
OUTBOUND = 3
"""Peers that each node dials."""
FIRST_KEY = 100
STEP_S = 1.0
LONGEST_S = 1e7


def sim_spec(name: str = "main", **overrides: int) -> ChainSpec:
    """Return a preset on the tiny data set, with a first target that fits ``TICKETS_PER_BLOCK``."""
    values = {
        "min_family_acc_bp": 2_800,
        "min_population": 2,
        "max_family_generations": 24,
        "family_patience": 48,
        "n_eval": 64,
        "coinbase_maturity_blocks": 10,
    }
    params = replace(preset(name), **{**values, **overrides})
    target = MAX_TARGET if params.is_lottery_open else MAX_TARGET // TICKETS_PER_BLOCK
    return replace(make_spec(initial_target=target), schedule=((Height(0), params),))


class Alarms(logging.Handler):
    """Keeps what nodes report as errors: an honest world has none."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


class World:
    """Nodes on one wire; use it in ``with``."""

    def __init__(
        self,
        seed: int,
        nodes: int | Sequence[NodeOptions] = 4,
        *,
        spec: ChainSpec | None = None,
        weather: Weather | None = None,
        learner: Learner | None = None,
        outbound: int = OUTBOUND,
        is_memoised: bool = True,
        skew_s: int = 0,
    ) -> None:
        """skew_s: honest clocks are wrong by up to this much.  A number of nodes shares the power evenly."""
        self.seed = seed
        self.draw = random.Random(f"{seed} world")
        self.spec = spec or sim_spec()
        self.wire = Wire(seed, weather or Weather())
        self.learner = learner or Learner()
        self.loop = SimLoop()
        self.nodes: list[SimNode] = []
        self.memo: Memo | None = {} if is_memoised else None
        self.skew_s = skew_s
        self._outbound = outbound
        self._options = nodes if not isinstance(nodes, int) else self._even(nodes)
        self._stack = ExitStack()
        self._alarms = Alarms()

    def _even(self, count: int) -> list[NodeOptions]:
        power = TICKETS_PER_BLOCK / INTERVAL_S / count
        return [NodeOptions(power, self.draw.randint(-self.skew_s, self.skew_s)) for _ in range(count)]

    def __enter__(self) -> World:  # noqa: PYI034  (no typing_extensions here)
        say(f"simulation: seed={self.seed} nodes={len(self._options)} weather={self.wire.weather}")
        self._stack.enter_context(self.wire.installed())
        logger = logging.getLogger("bnnchain")
        logger.addHandler(self._alarms)
        self._stack.callback(logger.removeHandler, self._alarms)
        self._stack.callback(logger.setLevel, logger.level)
        logger.setLevel(LOG_LEVEL)
        for options in self._options:
            self.add(options)
        for node in self.nodes:
            self.start(node, self._dial(node))
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            for node in self.nodes:
                self.do(node.stop())
            self.do(asyncio.sleep(0))
        finally:
            self._stack.close()
            self.loop.close()
            for node in self.nodes:
                node.store.close()
        if failure is None:
            self.assert_healthy()

    def assert_healthy(self) -> None:
        """Fail where a node has reported an error or asyncio an exception that nobody looked at."""
        assert not self.loop.complaints, self.loop.complaints
        assert not self._alarms.messages, self._alarms.messages[0]

    # Nodes.

    def add(self, options: NodeOptions, kind: type[Kind] = SimNode) -> Kind:  # type: ignore[assignment]
        """Return a new node, not yet started."""
        number = len(self.nodes) + 1
        draw = random.Random(f"{self.seed} node {number}")
        key = private_key(FIRST_KEY + number)
        node = kind(number, self.spec, key, options, self.memo, draw, self.learner, self.loop)
        self.nodes.append(node)
        return node

    def start(self, node: SimNode, dial: Sequence[str]) -> None:
        """Let a node serve, dial and mine."""
        self.do(node.start(dial))

    def redial(self, node: SimNode, peers: Sequence[SimNode]) -> None:
        """Start a node again, on its store, with other peers to dial."""
        self.do(node.stop())
        self.start(node, [peer.address for peer in peers])

    def _dial(self, node: SimNode) -> list[str]:
        """Return a ring neighbour, so that the network hangs together, and other nodes by lot."""
        position, others = self.nodes.index(node), [other for other in self.nodes if other is not node]
        chosen = [self.nodes[(position + 1) % len(self.nodes)]] if others else []
        rest = [other for other in others if other not in chosen]
        chosen += self.draw.sample(rest, max(0, min(self._outbound - 1, len(rest))))
        return [other.address for other in chosen]

    @property
    def honest(self) -> list[SimNode]:
        """The nodes that follow the rules."""
        return [node for node in self.nodes if type(node) is SimNode]

    # Time.

    @property
    def now_s(self) -> float:
        return self.loop.time()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run work to its end, everything else going on meanwhile."""
        return contextvars.copy_context().run(self.loop.run_until_complete, work)

    def run_s(self, seconds: float) -> None:
        """Let time pass."""
        self.do(asyncio.sleep(seconds))

    def run_until(self, condition: Callable[[], bool], limit_s: float = LONGEST_S) -> None:
        """Let time pass until a condition holds; looked at every virtual second."""
        deadline = self.now_s + limit_s

        async def wait() -> None:
            while not condition():
                assert self.now_s < deadline, f"seed {self.seed}: not within {limit_s:.0f} s"
                self.assert_healthy()
                await asyncio.sleep(STEP_S)

        self.do(wait())

    def run_blocks(self, count: int) -> None:
        """Let time pass until the highest honest chain has grown by ``count``."""
        wanted = self.height + count
        self.run_until(lambda: self.height >= wanted)

    # What has become of them.

    @property
    def height(self) -> int:
        """Height of the highest honest head."""
        return max(node.head.height for node in self.honest)

    def tips(self) -> set[BlockId]:
        """Return the heads of the honest nodes."""
        return {node.head.head for node in self.honest}

    def mined_count(self) -> int:
        """Return how many blocks honest nodes have mined."""
        return sum(node.mined_count for node in self.honest)

    # Partitions.

    def partition(self, share: float) -> None:
        """Cut off this share of the hosts, drawn by lot."""
        hosts = [node.host for node in self.nodes]
        self.wire_do(lambda: self.wire.partition(self.draw.sample(hosts, max(1, round(share * len(hosts))))))

    def heal(self) -> None:
        """End the partition."""
        self.wire.heal()

    def wire_do(self, change: Callable[[], None]) -> None:
        async def now() -> None:
            change()

        self.do(now())

    def blocks_to_converge(self, limit_s: float = 1e5) -> int:
        """Let time pass until all honest nodes stand on one tip; return the blocks mined until then."""
        before = self.mined_count()
        self.run_until(lambda: len(self.tips()) == 1, limit_s)
        return self.mined_count() - before

    def summary(self) -> str:
        """Return what happened, in a line."""
        deepest = max(depth for node in self.nodes for depth in [0, *node.reorg_depths])
        return (
            f"{self.now_s / 3_600:.1f} h, {self.wire.sent_count} messages, {self.wire.lost_count} lost,"
            f" {self.mined_count()} blocks mined, deepest reorg {deepest}"
        )


def assert_sound(world: World) -> None:
    """Check what must hold whatever has happened: one tip, no own block refused, money conserved, history valid."""
    assert len(world.tips()) == 1
    for node in world.honest:
        assert not node.refused
        state = node.head
        held = [state.ledger.total(), *(coinbase.amount for coinbase in state.coinbases)]
        pots = [entry.deposit + entry.bounty for entry in state.datasets.values()]
        assert sum(held) + sum(pots) == state.supply
    judge = world.honest[0]
    after = verify_chain(judge.store, ReferenceEvaluator, judge.now(), lambda _: None)
    assert after.head == judge.head.head
