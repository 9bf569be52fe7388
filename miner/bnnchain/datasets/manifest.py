"""The manifest: everything a stranger needs to know to use and check a data set; its hash is the data set's name.

PROTOCOL.md, section "Data sets".
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from bnnchain.datasets.chunks import MAX_PAYLOAD_BYTES
from bnnchain.wire import HASH_BYTES, ZERO_HASH, Reader, Writer, tagged_hash
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import MAX_IMAGES
from bnnchain_kernels.model import MAX_CLASSES, MAX_PLANES, MAX_SIDE, MIN_CLASSES

MAX_NAME_BYTES = 64
MAX_LICENCE_BYTES = 64
MAX_ORIGIN_BYTES = 256
MAX_MANIFEST_BYTES = 640
LABELS_U8 = 1
"""The one label coding: one byte a sample, after all images (:mod:`bnnchain.datasets.payload`)."""

# Only printable ASCII: names go to terminals, and what Unicode calls printable changes with its version.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_PRINTABLE = re.compile(r"[ -~]*")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a data set is.

    name: lower-case ASCII letters, digits, ``.``, ``_`` and ``-``; not unique, only the id is.
    thresholds: one byte a plane, strictly increasing from at least 1; bit p of a pixel is ``pixel >= thresholds[p]``.
    pool_size, hidden_size: samples of the public pool and of the held-out split (0: there is none).
    pool_root: 32 bytes, Merkle root over the pool payload's leaves.
    hidden_root: 32 bytes, salted root of the held-out payload, the zero hash if there is none.
    licence: an SPDX expression.  origin: a citation or an address.
    label_coding: ``LABELS_U8``.

    Raises :class:`Invalid` ``bad-manifest`` where a field breaks its rule.
    """

    name: str
    height: int
    width: int
    thresholds: bytes
    classes: int
    pool_size: int
    hidden_size: int
    pool_root: bytes
    hidden_root: bytes
    licence: str
    origin: str
    label_coding: int = LABELS_U8

    def __post_init__(self) -> None:
        _validate_texts(self)
        _validate_shape(self)
        _validate_splits(self)

    @property
    def planes(self) -> int:
        """Bits per pixel."""
        return len(self.thresholds)

    @property
    def image_bytes(self) -> int:
        """Bytes of one packed image."""
        return -(-self.height * self.width * self.planes // 8)

    @property
    def pool_bytes(self) -> int:
        """Bytes of the pool's payload: packed images, then one label byte each."""
        return self.pool_size * (self.image_bytes + 1)

    @property
    def hidden_bytes(self) -> int:
        """Bytes of the held-out payload."""
        return self.hidden_size * (self.image_bytes + 1)

    @property
    def dataset_id(self) -> bytes:
        """The 32-byte hash of the manifest, by which blocks name the data set."""
        return tagged_hash("dataset", encode_manifest(self))


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes: the fields in order, texts and thresholds behind their length."""
    writer = Writer().text(manifest.name, MAX_NAME_BYTES).u16(manifest.height).u16(manifest.width)
    writer.u8(manifest.planes).raw(manifest.thresholds).u16(manifest.classes).u8(manifest.label_coding)
    writer.u32(manifest.pool_size).u32(manifest.hidden_size).raw(manifest.pool_root).raw(manifest.hidden_root)
    return writer.text(manifest.licence, MAX_LICENCE_BYTES).text(manifest.origin, MAX_ORIGIN_BYTES).bytes()


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest of canonical bytes; raises ``bad-encoding`` or ``bad-manifest``."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise Invalid("bad-manifest", reason="size", size=len(data), limit=MAX_MANIFEST_BYTES)
    reader = Reader(data)
    name, height, width = reader.text(MAX_NAME_BYTES), reader.u16(), reader.u16()
    thresholds, classes, label_coding = reader.raw(reader.u8()), reader.u16(), reader.u8()
    pool_size, hidden_size = reader.u32(), reader.u32()
    pool_root, hidden_root = reader.raw(HASH_BYTES), reader.raw(HASH_BYTES)
    licence, origin = reader.text(MAX_LICENCE_BYTES), reader.text(MAX_ORIGIN_BYTES)
    reader.finish()
    return Manifest(
        name=name,
        height=height,
        width=width,
        thresholds=thresholds,
        classes=classes,
        pool_size=pool_size,
        hidden_size=hidden_size,
        pool_root=pool_root,
        hidden_root=hidden_root,
        licence=licence,
        origin=origin,
        label_coding=label_coding,
    )


def _validate_texts(manifest: Manifest) -> None:
    if not _NAME.fullmatch(manifest.name) or len(manifest.name) > MAX_NAME_BYTES:
        raise Invalid("bad-manifest", reason="name", name=ascii(manifest.name[:MAX_NAME_BYTES]))
    for field, text, limit in (
        ("licence", manifest.licence, MAX_LICENCE_BYTES),
        ("origin", manifest.origin, MAX_ORIGIN_BYTES),
    ):
        if not text or len(text) > limit or not _PRINTABLE.fullmatch(text):
            raise Invalid("bad-manifest", reason=f"{field} is not 1 to {limit} printable ASCII characters")


def _validate_shape(manifest: Manifest) -> None:
    if not (1 <= manifest.height <= MAX_SIDE and 1 <= manifest.width <= MAX_SIDE):
        raise Invalid("bad-manifest", reason="image size", height=manifest.height, width=manifest.width)
    if not 1 <= manifest.planes <= MAX_PLANES:
        raise Invalid("bad-manifest", reason="planes", planes=manifest.planes, limit=MAX_PLANES)
    levels = (0, *manifest.thresholds)
    if any(low >= high for low, high in itertools.pairwise(levels)):
        raise Invalid("bad-manifest", reason="thresholds do not increase from 1", thresholds=manifest.thresholds.hex())
    if not MIN_CLASSES <= manifest.classes <= MAX_CLASSES:
        raise Invalid("bad-manifest", reason="classes", classes=manifest.classes, limit=MAX_CLASSES)
    if manifest.label_coding != LABELS_U8:
        raise Invalid("bad-manifest", reason="unknown label coding", label_coding=manifest.label_coding)


def _validate_splits(manifest: Manifest) -> None:
    if not 1 <= manifest.pool_size <= MAX_IMAGES or not 0 <= manifest.hidden_size <= MAX_IMAGES:
        raise Invalid("bad-manifest", reason="split size", pool=manifest.pool_size, hidden=manifest.hidden_size)
    if max(manifest.pool_bytes, manifest.hidden_bytes) > MAX_PAYLOAD_BYTES:
        size = max(manifest.pool_bytes, manifest.hidden_bytes)
        raise Invalid("bad-manifest", reason="payload size", size=size, limit=MAX_PAYLOAD_BYTES)
    if len(manifest.pool_root) != HASH_BYTES or len(manifest.hidden_root) != HASH_BYTES:
        raise Invalid("bad-manifest", reason="a root is not 32 bytes")
    if manifest.pool_root == ZERO_HASH or (manifest.hidden_root == ZERO_HASH) != (manifest.hidden_size == 0):
        raise Invalid("bad-manifest", reason="a split without its root or a root without its split")
