"""Where a model comes from and what it was measured on: what every exported file says of itself."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from bnnchain.bnn.encoding import model_hash
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import MAX_PLANES

if TYPE_CHECKING:
    from bnnchain_kernels.model import Architecture, Model

METADATA_KEY = "bnnchain"
"""Under which a file of another tool carries the JSON of a :class:`Provenance`."""
MAX_JSON_BYTES = 8_192
MAX_TEXT_CHARACTERS = 512
MAX_INTEGER = (1 << 63) - 1
MAX_GREY = 255


@dataclass(frozen=True, slots=True)
class Provenance:
    """A model's papers; None where nobody said.

    Ids, hashes and keys are lower-case hex.  thresholds: one grey value a plane of the input, bit p of a pixel is
    ``pixel >= thresholds[p]``.  correct of total: samples of the data set's pool, as the chain counted them.
    Raises :class:`Invalid` ``bad-model-file`` where a field breaks its bounds.
    """

    model_hash: str
    chain: str | None = None
    genesis_id: str | None = None
    block_id: str | None = None
    height: int | None = None
    family: int | None = None
    generation: int | None = None
    miner: str | None = None
    dataset: str | None = None
    dataset_id: str | None = None
    thresholds: tuple[int, ...] | None = None
    licence: str | None = None
    origin: str | None = None
    correct: int | None = None
    total: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "thresholds":
                is_good = value is None or _is_rising(value)
            elif field.name in {"height", "family", "generation", "correct", "total"}:
                is_good = value is None or (type(value) is int and 0 <= value <= MAX_INTEGER)
            else:
                is_good = _is_text(value) or (value is None and field.name != "model_hash")
            if not is_good:
                raise Invalid("bad-model-file", reason="provenance", field=field.name)

    def to_dict(self) -> dict[str, object]:
        """Return the known fields by name, in their order."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def to_json(self) -> str:
        """Return the known fields as one JSON object, in their order."""
        return json.dumps(self.to_dict())

    def lines(self) -> list[str]:
        """Return the known fields for people, one line each."""
        known = self.to_dict()
        if self.correct is not None and self.total:
            correct, total = self.correct, self.total
            del known["correct"], known["total"]
            known["accuracy"] = f"{correct} of {total} ({100 * correct / total:.2f} %)"
        if self.thresholds is not None:
            known["thresholds"] = " ".join(map(str, self.thresholds))
        return [f"{name}: {value}" for name, value in known.items()]

    def validate_describes(self, model: Model) -> None:
        """Raise :class:`Invalid` ``bad-model-file`` where these are another model's papers."""
        if self.model_hash != model_hash(model).hex():
            raise Invalid("bad-model-file", reason="the provenance is another model's", model_hash=self.model_hash)
        validate_thresholds(self.thresholds, model.architecture)


def provenance_from_json(text: str | bytes) -> Provenance:
    """Return the provenance of a JSON object; raises :class:`Invalid` ``bad-model-file``."""
    if len(text) > MAX_JSON_BYTES:
        raise Invalid("bad-model-file", reason="provenance too large", size=len(text), limit=MAX_JSON_BYTES)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid("bad-model-file", reason="provenance is not JSON") from None
    if not isinstance(values, dict) or not set(values) <= {field.name for field in fields(Provenance)}:
        raise Invalid("bad-model-file", reason="provenance has unknown fields")
    if isinstance(values.get("thresholds"), list):
        values["thresholds"] = tuple(values["thresholds"])
    return Provenance(**{"model_hash": None, **values})


def validate_thresholds(thresholds: tuple[int, ...] | None, architecture: Architecture) -> None:
    """Raise :class:`Invalid` ``bad-model-file`` where there is not one rising grey value a plane."""
    if thresholds is not None and (not _is_rising(thresholds) or len(thresholds) != architecture.planes):
        raise Invalid("bad-model-file", reason="one rising threshold (1 to 255) a plane", planes=architecture.planes)


def _is_rising(thresholds: object) -> bool:
    if not isinstance(thresholds, tuple) or not 1 <= len(thresholds) <= MAX_PLANES:
        return False
    if any(type(value) is not int for value in thresholds):
        return False
    return thresholds[-1] <= MAX_GREY and all(low < high for low, high in itertools.pairwise((0, *thresholds)))


def _is_text(value: object) -> bool:
    # Printable ASCII alone: these lines go to terminals and into the comments of C headers.
    is_short = isinstance(value, str) and 1 <= len(value) <= MAX_TEXT_CHARACTERS
    return is_short and isinstance(value, str) and value.isascii() and value.isprintable()
