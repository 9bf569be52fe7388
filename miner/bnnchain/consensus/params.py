"""The constants of a chain and its presets: pure data; no code anywhere asks which preset it runs.

PROTOCOL.md, section "Parameters".  Shares are basis points (bp), times seconds, money integer units.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from bnnchain.wire import Reader, Writer, tagged_hash
from bnnchain_kernels.errors import Invalid

BP = 10_000
"""Basis points in the whole."""
MAX_U64 = (1 << 64) - 1
MAX_MONEY = 1 << 62
MAX_BLOCK_BYTES = 1 << 20
"""No preset may allow a larger block; checked before a byte of it is decoded."""
MEDIAN_TIME_BLOCKS = 11


@dataclass(frozen=True, slots=True)
class Params:
    """The constants in force at a height; every field is an unsigned 64-bit integer on the wire, in this order."""

    is_lottery_open: int
    """1: every y wins and the target is the maximum (the paper's literal chain, unsound by design); 0: ASERT."""
    is_idle_allowed: int
    """1: blocks without a model may extend the chain."""
    block_interval_s: int
    future_limit_s: int
    """How far a timestamp may lie ahead of a node's clock."""
    min_population_acc_bp: int
    """Paper 4.3: the least gain of a child over its parent, as a share of the pool; at least one sample."""
    gain_of_last_bp: int
    """Share of the family's last achieved gain that the next must reach; 0: ``min_population_acc_bp`` counts."""
    gain_halflife_s: int
    """The demanded gain halves each time this passes since the parent block; 0: it does not decay."""
    min_population_diff_bp: int
    """Paper 4.3: the least share of weights, and of novel weights, in which a child differs from its parent."""
    min_family_acc_bp: int
    """Paper 4.3: the least accuracy of a founding model on the pool."""
    min_family_diff_bp: int
    """Paper 4.3: the least share of the pool on which two founders of a family predict differently."""
    min_families: int
    """Paper 4.3: open families a data set wants."""
    min_population: int
    """Paper 4.3: founding models a family wants before it evolves."""
    max_family_generations: int
    """Paper 4.4: a family closes at this generation."""
    family_patience: int
    """A family closes when this many blocks have passed since its last model."""
    max_connection_count: int
    """Paper 4.2: the most weights of a model."""
    max_gate_macs: int
    """The most multiply-accumulates one evaluation of a model on its pool may take."""
    n_eval: int
    """Pool samples a lottery ticket is evaluated on (all of a smaller pool)."""
    ticket_flips: int
    """Weights flipped in every layer of a ticket's mutant."""
    skip_s: int
    """Each time this passes since the parent block, one more place of the election order may be filled."""
    max_block_transactions: int
    max_block_bytes: int
    subsidy: int
    """New money of a FOUND or EVOLVE block."""
    idle_subsidy: int
    coinbase_maturity_blocks: int
    """Blocks before a miner's reward can be spent."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or not 0 <= value <= MAX_U64:
                raise Invalid("bad-spec", reason=f"{field.name} is not an unsigned 64-bit integer", value=value)
        if self.max_block_bytes > MAX_BLOCK_BYTES or self.subsidy > MAX_MONEY or self.idle_subsidy > MAX_MONEY:
            raise Invalid("bad-spec", reason="a parameter is out of bounds")
        if min(self.block_interval_s, self.skip_s, self.n_eval, self.ticket_flips, self.min_population) < 1:
            raise Invalid("bad-spec", reason="a parameter is zero that must not be")


def encode_params(params: Params) -> bytes:
    """Return the canonical bytes: every field as u64, in order of declaration."""
    writer = Writer()
    for field in fields(Params):
        writer.u64(getattr(params, field.name))
    return writer.bytes()


def read_params(reader: Reader) -> Params:
    """Return the parameters at the reader's place; raises ``bad-encoding`` or ``bad-spec``."""
    return Params(**{field.name: reader.u64() for field in fields(Params)})


def params_hash(params: Params) -> bytes:
    """Return the 32-byte hash that headers carry."""
    return tagged_hash("params", encode_params(params))


def share_ceil(count: int, share_bp: int) -> int:
    """Return ceil(count * share_bp / 10000): a threshold in samples or weights."""
    return -(-count * share_bp // BP)


_PAPER = Params(
    is_lottery_open=1,
    is_idle_allowed=0,
    block_interval_s=60,
    future_limit_s=120,
    min_population_acc_bp=100,
    gain_of_last_bp=0,
    gain_halflife_s=0,
    min_population_diff_bp=50,
    min_family_acc_bp=8_000,
    min_family_diff_bp=100,
    min_families=1,
    min_population=5,
    max_family_generations=64,
    family_patience=64,
    max_connection_count=1 << 21,
    max_gate_macs=1 << 41,
    n_eval=1_024,
    ticket_flips=1,
    skip_s=600,
    max_block_transactions=146,
    max_block_bytes=512_000,
    subsidy=5_000_000_000,
    idle_subsidy=1_250_000_000,
    coinbase_maturity_blocks=100,
)

PRESETS: dict[str, Params] = {
    # Paper table 2: difficulty is the least gain and the least difference.
    "paper-low": _PAPER,
    "paper-medium": replace(_PAPER, min_population_acc_bp=200, min_population_diff_bp=100),
    "paper-high": replace(_PAPER, min_population_acc_bp=500, min_population_diff_bp=130),
    # For tests and first steps: any gain counts, founders may be weak.
    "regtest": replace(
        _PAPER, is_idle_allowed=1, min_population_acc_bp=0, min_family_acc_bp=5_000, min_population=2, skip_s=5
    ),
}
DEFAULT_PRESET = "regtest"


def preset(name: str) -> Params:
    """Return the named preset; raises :class:`Invalid` ``unknown-preset``."""
    try:
        return PRESETS[name]
    except KeyError:
        raise Invalid("unknown-preset", name=name, known=", ".join(PRESETS)) from None
