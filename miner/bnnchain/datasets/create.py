"""A user's labelled images as a data set: split, thresholds, duplicates, classes, limits (paper 4.3).

All choices follow from the images and the request; the same give the same data set.  In this order:
1. The split: each class by itself, ``hidden_bp`` of it (at least one image, and one left for the pool) drawn by the
   seed; or the source's own split.  Then the order of each split is shuffled, because search and lottery take images
   from the front.
2. Thresholds: given, or chosen from the pool's pixels alone.
3. Duplicates: of images that are equal once packed only the first stays, the pool's before held-out ones, so that no
   held-out image is one that miners trained on.  Where their classes differ, nobody can learn them: refused, or all
   of them dropped.
4. Classes: each needs images in the pool; a rare one is warned of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.datasets.chunks import MAX_PAYLOAD_BYTES, payload_root
from bnnchain.datasets.dataset import Dataset
from bnnchain.datasets.hidden import hidden_root, hidden_salt
from bnnchain.datasets.manifest import Manifest
from bnnchain.datasets.payload import encode_payload, pack_pixels
from bnnchain.datasets.thresholds import histogram, otsu, quantiles
from bnnchain.wire import HASH_BYTES, ZERO_HASH
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import Samples
from bnnchain_kernels.model import MIN_CLASSES

if TYPE_CHECKING:
    import numpy.typing as npt

    from bnnchain.datasets.labelled import LabelledImages, Source
    from bnnchain_kernels.model import UInt8Array

BP = 10_000
MAJORITY_MARGIN_BP = 1_000
"""What every preset demands of founders above naming the commonest class always (``majority_margin_bp``)."""
MIN_CLASS_IMAGES = 5
"""Fewer of a class in the pool, and no model is expected to learn it."""
RARE_SHARE = 10
"""A class this many times rarer than the commonest is warned of."""
MAX_NAMED = 8
"""Samples named one by one in a message; the others are counted."""
MIN_SECRET_BYTES = 32

OTSU, QUANTILES = "otsu", "quantiles"


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What the user wants.

    thresholds: one byte a plane, or None to choose ``planes`` of them: one by Otsu, more by quantiles.
    hidden_bp: share of each class that is held out; a source's own split comes before it.
    drop_conflicts: drop equal images of different classes instead of refusing them.
    secret: of the owner, at least 32 random bytes; salts the commitment to the held-out samples.
    Raises ``bad-manifest`` or ``bad-dataset``, so that nothing is read for a request that cannot be met.
    """

    name: str
    licence: str
    origin: str
    secret: bytes
    thresholds: bytes | None = None
    planes: int = 1
    hidden_bp: int = 1_000
    seed: int = 0
    drop_conflicts: bool = False

    def __post_init__(self) -> None:
        if len(self.secret) < MIN_SECRET_BYTES or not 0 <= self.hidden_bp < BP:
            raise Invalid("bad-dataset", reason="secret or held-out share", hidden_bp=self.hidden_bp)
        # Names, texts and thresholds are the manifest's to judge; the rest of this one stands for anything.
        Manifest(
            name=self.name,
            height=1,
            width=1,
            thresholds=bytes([1]) if self.thresholds is None else self.thresholds,
            classes=MIN_CLASSES,
            pool_size=1,
            hidden_size=0,
            pool_root=b"\1" * HASH_BYTES,
            hidden_root=ZERO_HASH,
            licence=self.licence,
            origin=self.origin,
        )


@dataclass(frozen=True, slots=True, eq=False)
class CreatedDataset:
    """A data set with the key to its held-out samples and what people should know of it.

    salt: 32 bytes, revealed together with the held-out samples.  dropped: duplicates and conflicts, named.
    majority: images of the commonest class in the pool.  warnings: one line each.
    """

    dataset: Dataset
    salt: bytes
    class_names: tuple[str, ...]
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]
    majority: int

    @property
    def least_accuracy_bp(self) -> int:
        """The least ``min_family_acc`` that makes sense to upload with: a founder must reach this anyway."""
        share_bp = -(-self.majority * BP // self.dataset.manifest.pool_size)
        return min(BP, share_bp + MAJORITY_MARGIN_BP)


def create_dataset(source: Source, request: CreateRequest) -> CreatedDataset:
    """Return the data set of a source.

    Raises ``bad-dataset``, ``bad-thresholds`` or ``bad-manifest`` naming what is wrong and where.
    """
    rng = np.random.default_rng(request.seed)
    pool, hidden = _split(source, request.hidden_bp, rng)
    thresholds = request.thresholds
    if thresholds is None:
        thresholds = _choose(pool.images.pixels[pool.indices], request.planes)
    packed = [_pack(part, thresholds) for part in (pool, hidden)]
    kept, dropped = _without_duplicates((pool, hidden), packed, drop_conflicts=request.drop_conflicts)
    samples = []
    for part, images, keep in zip((pool, hidden), packed, kept, strict=True):
        _, height, width = part.images.pixels.shape
        labels = part.images.labels[part.indices][keep]
        samples.append(Samples(height, width, len(thresholds), len(part.images.class_names), images[keep], labels))
    warnings = _check_classes(samples[0], samples[1], source.images.class_names)
    manifest, salt = _manifest(request, thresholds, *samples)
    majority = int(np.bincount(samples[0].labels).max())
    dataset = Dataset(manifest, *samples)
    return CreatedDataset(dataset, salt, source.images.class_names, dropped, warnings, majority)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One split: which of a source's images, in its order (``int64[m]``), and what their numbers are told apart by."""

    images: LabelledImages
    indices: npt.NDArray[np.int64]
    prefix: str = ""

    def name(self, place: int) -> str:
        return self.prefix + self.images.name(int(self.indices[place]))

    def class_name(self, place: int) -> str:
        return ascii(self.images.class_names[self.images.labels[self.indices[place]]])


def _split(source: Source, hidden_bp: int, rng: np.random.Generator) -> tuple[_Part, _Part]:
    images = source.images
    if source.hidden is not None:
        pool, hidden = rng.permutation(len(images)), rng.permutation(len(source.hidden))
        return _Part(images, pool), _Part(source.hidden, hidden, "held-out ")
    parts: tuple[list[int], list[int]] = ([], [])
    for label, name in enumerate(images.class_names):
        members = rng.permutation(np.flatnonzero(images.labels == label))
        if len(members) <= (1 if hidden_bp else 0):
            raise Invalid("bad-dataset", reason="a class has too few images", name=ascii(name), images=len(members))
        held = max(1, min(len(members) - 1, round(len(members) * hidden_bp / BP))) if hidden_bp else 0
        parts[1].extend(members[:held].tolist())
        parts[0].extend(members[held:].tolist())
    pool, hidden = (rng.permutation(np.array(part, np.int64)) for part in parts)
    return _Part(images, pool), _Part(images, hidden)


def _choose(pixels: UInt8Array, planes: int) -> bytes:
    counts = histogram(pixels)
    return otsu(counts) if planes == 1 else quantiles(counts, planes)


def _pack(part: _Part, thresholds: bytes) -> UInt8Array:
    _, height, width = part.images.pixels.shape
    sample_bytes = -(-height * width * len(thresholds) // 8) + 1
    count, most = len(part.indices), MAX_PAYLOAD_BYTES // sample_bytes
    if count > most:
        raise Invalid("bad-dataset", reason="payload too large", images=count, fit=most, limit_bytes=MAX_PAYLOAD_BYTES)
    return pack_pixels(part.images.pixels[part.indices], thresholds)


def _without_duplicates(
    parts: tuple[_Part, _Part], packed: list[UInt8Array], *, drop_conflicts: bool
) -> tuple[list[npt.NDArray[np.int64]], tuple[str, ...]]:
    """Return the places kept in each part, and what was dropped, named; raises ``bad-dataset`` for conflicts."""
    places = [(number, place) for number, part in enumerate(parts) for place in range(len(part.indices))]
    groups: dict[bytes, list[tuple[int, int]]] = {}
    for number, place in places:
        groups.setdefault(packed[number][place].tobytes(), []).append((number, place))
    conflicts, duplicates, gone = [], [], set()
    for group in groups.values():
        first = group[0]
        if len({parts[number].class_name(place) for number, place in group}) > 1:
            described = (f"{parts[number].name(place)} ({parts[number].class_name(place)})" for number, place in group)
            conflicts.append(f"equal images of different classes: {', '.join(list(described)[:MAX_NAMED])}")
            gone.update(group)
        elif len(group) > 1:
            for number, place in group[1:]:
                across = " across the split" if number != first[0] else ""
                duplicates.append(f"{parts[number].name(place)} equals {parts[first[0]].name(first[1])}{across}")
            gone.update(group[1:])
    if conflicts and not drop_conflicts:
        raise Invalid("bad-dataset", reason=conflicts[0], conflicts=len(conflicts))
    kept = [
        np.array([place for place in range(len(part.indices)) if (number, place) not in gone], np.int64)
        for number, part in enumerate(parts)
    ]
    return kept, (*conflicts, *duplicates)


def _check_classes(pool: Samples, hidden: Samples, class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Return warnings; raises ``bad-dataset`` where a class has too few images in the pool."""
    counts = np.bincount(pool.labels, minlength=len(class_names))
    few = [f"{name!a}: {count}" for name, count in zip(class_names, counts, strict=True) if count < MIN_CLASS_IMAGES]
    if few:
        raise Invalid(
            "bad-dataset", reason="too few images in the pool", least=MIN_CLASS_IMAGES, classes=few[:MAX_NAMED]
        )
    rare = [
        f"class {name!a} is {counts.max() / count:.0f} times rarer than the commonest"
        for name, count in zip(class_names, counts, strict=True)
        if count * RARE_SHARE < counts.max()
    ]
    warnings = rare[:MAX_NAMED]
    if len(hidden):
        absent = [ascii(class_names[label]) for label in set(range(len(class_names))) - set(hidden.labels.tolist())]
        warnings += [f"no held-out image of {', '.join(sorted(absent)[:MAX_NAMED])}"] if absent else []
    return tuple(warnings)


def _manifest(request: CreateRequest, thresholds: bytes, pool: Samples, hidden: Samples) -> tuple[Manifest, bytes]:
    pool_payload = encode_payload(pool)
    root = payload_root(pool_payload)
    salt = hidden_salt(request.secret, root)
    manifest = Manifest(
        name=request.name,
        height=pool.height,
        width=pool.width,
        thresholds=thresholds,
        classes=pool.classes,
        pool_size=len(pool),
        hidden_size=len(hidden),
        pool_root=root,
        hidden_root=hidden_root(encode_payload(hidden), salt),
        licence=request.licence,
        origin=request.origin,
    )
    return manifest, salt
