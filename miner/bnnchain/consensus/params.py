"""The constants of a chain and its presets: pure data; no code anywhere asks which preset it runs.

PROTOCOL.md, section "Parameters".  Shares are basis points (bp), times seconds, money integer units.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache

from bnnchain.wire import Reader, Writer, tagged_hash
from bnnchain_kernels.errors import Invalid

BP = 10_000
"""Basis points in the whole."""
MAX_U64 = (1 << 64) - 1
MAX_MONEY = 1 << 62
MAX_BLOCK_BYTES = 1 << 20
"""No preset may allow a larger block; checked before a byte of it is decoded."""
MAX_WINDOW = 64
"""Most recent blocks in which availability proofs may be counted."""
MAX_OBJECTS = 64
"""No preset may let a state hold more uploaded data sets, or ancestors for stale headers."""


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
    relief_s: int
    """Once this has passed since the parent block, a new family may be founded though none is wanted; 0: never."""
    max_shared_rows_bp: int
    """Paper 4.1: the most rows, as a share, that a model may have nearly in common with another family's."""
    majority_margin_bp: int
    """A founder on an uploaded data set is this much better than naming the commonest class always."""
    max_block_transactions: int
    max_transactions_bytes: int
    max_block_bytes: int
    subsidy: int
    """New money of a FOUND or EVOLVE block on the chain's own data set."""
    idle_subsidy: int
    """New money of an IDLE block, and of a model on an uploaded data set."""
    coinbase_maturity_blocks: int
    """Blocks before a miner's reward can be spent."""
    bounty_miner_bp: int
    """Share of a paid bounty that the miner of the better model gets."""
    bounty_parent_bp: int
    """Share that the miner of its parent model gets; what is left is burned."""
    slash_reporter_bp: int
    """Share of a slashed reward that the reporter gets; the rest is burned."""
    stale_depth: int
    """A stale header is worth something for this many blocks; 0: never."""
    stale_divisor: int
    """The includer of a stale header gets ``subsidy`` divided by this."""
    min_pool_size: int
    """The fewest images of an uploaded data set's pool."""
    max_active_datasets: int
    max_pending_datasets: int
    """Uploaded data sets that wait, pending or suspended, when another is proposed."""
    upload_fee_per_kib: int
    """Burned for each 1,024 bytes of an uploaded pool."""
    upload_deposit: int
    """Held until the data set closes; burned where it was not available."""
    availability_window: int
    """Recent blocks in which a data set's proofs are counted."""
    availability_least: int
    """Proofs that it needs among them."""
    pending_blocks: int
    """A data set that has not become active for so long closes."""
    suspend_blocks: int
    """An active data set that has been below its proofs for so long is suspended."""
    suspended_blocks: int
    """A data set that has been suspended for so long closes; so does one that wanted a family for so long in vain."""
    dataset_life_blocks: int
    """An uploaded data set that has been active for so long closes; 0: never."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or not 0 <= value <= MAX_U64:
                raise Invalid("bad-spec", reason=f"{field.name} is not an unsigned 64-bit integer", value=value)
        if self.max_block_bytes > MAX_BLOCK_BYTES or self.subsidy > MAX_MONEY or self.idle_subsidy > MAX_MONEY:
            raise Invalid("bad-spec", reason="a parameter is out of bounds")
        shares = (self.bounty_miner_bp + self.bounty_parent_bp, self.slash_reporter_bp, self.max_shared_rows_bp)
        if not self.availability_least <= self.availability_window <= MAX_WINDOW or max(shares) > BP:
            raise Invalid("bad-spec", reason="a share or a window is out of bounds")
        if max(self.stale_depth, self.max_active_datasets, self.max_pending_datasets) > MAX_OBJECTS:
            raise Invalid("bad-spec", reason="a list may grow too long", limit=MAX_OBJECTS)
        learned = (self.n_eval, self.ticket_flips, self.min_families, self.min_population)
        waited = (self.block_interval_s, self.skip_s, self.suspend_blocks, self.suspended_blocks)
        if min(*learned, *waited, self.stale_divisor, self.availability_least) < 1:
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


@lru_cache(maxsize=64)
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
    relief_s=600,
    max_shared_rows_bp=500,
    majority_margin_bp=1_000,
    max_block_transactions=146,
    max_transactions_bytes=261_120,
    max_block_bytes=512_000,
    subsidy=5_000_000_000,
    idle_subsidy=1_250_000_000,
    coinbase_maturity_blocks=100,
    bounty_miner_bp=7_000,
    bounty_parent_bp=2_000,
    slash_reporter_bp=5_000,
    stale_depth=6,
    stale_divisor=32,
    min_pool_size=100,
    max_active_datasets=16,
    max_pending_datasets=16,
    upload_fee_per_kib=100_000,
    upload_deposit=1_000_000_000,
    availability_window=30,
    availability_least=20,
    pending_blocks=1_440,
    suspend_blocks=200,
    suspended_blocks=10_080,
    dataset_life_blocks=0,
)

PRESETS: dict[str, Params] = {
    # Paper table 2: difficulty is the least gain and the least difference.
    "paper-low": _PAPER,
    "paper-medium": replace(_PAPER, min_population_acc_bp=200, min_population_diff_bp=100),
    "paper-high": replace(_PAPER, min_population_acc_bp=500, min_population_diff_bp=130),
    # For tests and first steps: any gain counts, founders may be weak.
    "regtest": replace(
        _PAPER,
        is_idle_allowed=1,
        min_population_acc_bp=0,
        min_family_acc_bp=5_000,
        min_population=2,
        skip_s=5,
        relief_s=0,
    ),
    # The hardened chain: every block costs a lottery, the demanded gain follows the family and the time.
    "main": replace(
        _PAPER,
        is_lottery_open=0,
        is_idle_allowed=1,
        min_population_acc_bp=8,
        gain_halflife_s=30,
        min_family_diff_bp=200,
        min_families=2,
        max_family_generations=1_024,
        family_patience=128,
        max_connection_count=1 << 18,
        max_gate_macs=1 << 38,
        skip_s=20,
        relief_s=0,
        max_block_transactions=4_096,
        min_pool_size=10_000,
        dataset_life_blocks=525_600,
    ),
}
DEFAULT_PRESET = "regtest"


def preset(name: str) -> Params:
    """Return the named preset; raises :class:`Invalid` ``unknown-preset``."""
    try:
        return PRESETS[name]
    except KeyError:
        raise Invalid("unknown-preset", name=name, known=", ".join(PRESETS)) from None
