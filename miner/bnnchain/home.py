"""A node's directory: the chain spec, the wallet, the store; made once, locked while a node runs."""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bnnchain.bnn.encoding import decode_model, encode_model
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.params import Params
from bnnchain.consensus.spec import MAX_SPEC_BYTES, ChainSpec
from bnnchain.consensus.types import Amount, BlockId, Height, PublicKey
from bnnchain.datasets.manifest import decode_manifest, encode_manifest
from bnnchain.durable import write_durably
from bnnchain.wallet import Wallet
from bnnchain.wire import HASH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPEC_FORMAT = 1
MAX_HEIGHT_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Home:
    """The files of one node, all below ``path``."""

    path: Path

    @property
    def spec_file(self) -> Path:
        return self.path / "chain.json"

    @property
    def wallet(self) -> Wallet:
        """The account's key."""
        return Wallet(self.path)

    @property
    def book_file(self) -> Path:
        return self.path / "peers.json"

    @property
    def store_file(self) -> Path:
        return self.path / "chain.db"

    def is_initialised(self) -> bool:
        """Answer whether ``bnnchain init`` has been here."""
        return self.spec_file.exists()

    def create(self, spec: ChainSpec) -> None:
        """Write the spec; refuses to replace another chain's."""
        self.path.mkdir(parents=True, exist_ok=True)
        if self.is_initialised() and self.spec().genesis_id != spec.genesis_id:
            raise Fault(f"{self.path} already belongs to the chain {self.spec().name}; choose another --home")
        write_durably(self.spec_file, format_spec(spec).encode(), mode=0o644)

    def spec(self) -> ChainSpec:
        """Return the chain spec; raises :class:`Unavailable` where ``bnnchain init`` has not been here."""
        if not self.is_initialised():
            raise Unavailable(f"{self.path} is not initialised; run `bnnchain init --home {self.path}` first")
        return read_spec_file(self.spec_file)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for one node; a second one gets a :class:`Fault`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            opened = (self.path / "lock").open("w")
        except OSError as error:
            raise Fault(f"cannot write in {self.path}: {error.strerror}") from error
        with opened as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Fault(f"another node is running in {self.path}") from error
            yield


def is_for_tests(spec: ChainSpec) -> bool:
    """Answer whether a chain's coins are worth nothing: its lottery is open, so rewriting it costs nothing."""
    return bool(spec.params_at(Height(0)).is_lottery_open)


def format_spec(spec: ChainSpec) -> str:
    """Return a chain spec as JSON for people and files: parameters by name, manifest and model as hex."""
    return json.dumps(
        {
            "format": SPEC_FORMAT,
            "name": spec.name,
            "chain_id": spec.chain_id,
            "genesis_time": spec.genesis_time,
            "initial_target": f"{spec.initial_target:x}",
            "schedule": {str(height): asdict(params) for height, params in spec.schedule},
            "dataset": encode_manifest(spec.dataset).hex(),
            "model": encode_model(spec.model).hex(),
            "allocations": {key.hex(): amount for key, amount in spec.allocations},
        },
        indent=2,
    )


def parse_spec(text: str) -> ChainSpec:
    """Return the chain spec of :func:`format_spec`'s JSON; raises :class:`Invalid` ``bad-spec``."""
    try:
        fields = json.loads(text)
        if fields["format"] != SPEC_FORMAT:
            raise Invalid("bad-spec", reason="format", format=fields["format"])
        schedule = sorted((int(height), Params(**params)) for height, params in fields["schedule"].items())
        allocations = sorted((bytes.fromhex(key), amount) for key, amount in fields["allocations"].items())
        return ChainSpec(
            name=fields["name"],
            chain_id=fields["chain_id"],
            genesis_time=fields["genesis_time"],
            initial_target=int(fields["initial_target"], 16),
            schedule=tuple((Height(height), params) for height, params in schedule),
            dataset=decode_manifest(bytes.fromhex(fields["dataset"])),
            model=decode_model(bytes.fromhex(fields["model"])),
            allocations=tuple((PublicKey(key), Amount(amount)) for key, amount in allocations),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Invalid("bad-spec", reason=f"{type(error).__name__}: {error}") from error


def read_spec_file(path: Path) -> ChainSpec:
    """Return the chain spec in a file; raises :class:`Invalid` ``bad-spec`` or :class:`Unavailable`."""
    try:
        with path.open("rb") as file:
            data = file.read(4 * MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    if len(data) > 4 * MAX_SPEC_BYTES:
        raise Invalid("bad-spec", reason="file too large", file=path)
    return parse_spec(data.decode(errors="replace"))


def parse_public_key(text: str) -> PublicKey:
    """Return the public key written as 64 hex digits; raises :class:`Invalid` ``bad-address``."""
    return PublicKey(_parse_hex(text, "bad-address"))


def parse_hash(text: str) -> bytes:
    """Return the 32 bytes written as 64 hex digits; raises :class:`Invalid` ``bad-id``."""
    return _parse_hex(text, "bad-id")


def parse_checkpoint(text: str) -> tuple[int, BlockId]:
    """Return the height and block id written as ``height:id``; raises :class:`Invalid` ``bad-id``."""
    height, _, identity = text.partition(":")
    if not (height.isascii() and height.isdigit() and len(height) <= MAX_HEIGHT_DIGITS):
        raise Invalid("bad-id", given=ascii(text), wanted="height:id")
    return int(height), BlockId(parse_hash(identity))


def _parse_hex(text: str, code: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != HASH_BYTES:
        raise Invalid(code, given=ascii(text), wanted=f"{2 * HASH_BYTES} hex digits")
    return data
