"""A data set in memory: its manifest and the samples that the manifest commits to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnnchain.datasets.chunks import payload_root
from bnnchain.datasets.hidden import PUBLIC_SECRET, hidden_root, hidden_salt
from bnnchain.datasets.manifest import Manifest
from bnnchain.datasets.payload import decode_payload, encode_payload
from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import Samples


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A data set, ready to count on.

    pool: the public samples on which consensus counts and miners search.
    heldout: samples shown beside the pool's figures, never used by consensus or search; empty on a node that has only
        the pool.
    """

    manifest: Manifest
    pool: Samples
    heldout: Samples


def build_dataset(
    name: str, thresholds: bytes, pool: Samples, heldout: Samples, *, licence: str, origin: str
) -> Dataset:
    """Return the data set of public samples with the manifest that commits to them; raises ``bad-manifest``."""
    pool_payload, heldout_payload = encode_payload(pool), encode_payload(heldout)
    root = payload_root(pool_payload)
    manifest = Manifest(
        name=name,
        height=pool.height,
        width=pool.width,
        thresholds=thresholds,
        classes=pool.classes,
        pool_size=len(pool),
        hidden_size=len(heldout),
        pool_root=root,
        hidden_root=hidden_root(heldout_payload, hidden_salt(PUBLIC_SECRET, root)),
        licence=licence,
        origin=origin,
    )
    return Dataset(manifest, pool, heldout)


def dataset_from_payloads(
    manifest: Manifest, pool: bytes, heldout: bytes = b"", *, salt: bytes | None = None
) -> Dataset:
    """Return the data set of a manifest and its payloads, as they come from peers or from disk.

    heldout: the held-out payload, or nothing.  salt: what its owner revealed; by default that of public samples.
    Raises ``bad-samples`` where a payload is not the one the manifest commits to.
    """
    if len(pool) != manifest.pool_bytes or payload_root(pool) != manifest.pool_root:
        raise Invalid("bad-samples", reason="pool differs from the manifest", name=manifest.name)
    if heldout:
        salt = hidden_salt(PUBLIC_SECRET, manifest.pool_root) if salt is None else salt
        if len(heldout) != manifest.hidden_bytes or hidden_root(heldout, salt) != manifest.hidden_root:
            raise Invalid("bad-samples", reason="held-out samples differ from the manifest", name=manifest.name)
    return Dataset(manifest, decode_payload(manifest, pool), decode_payload(manifest, heldout))
