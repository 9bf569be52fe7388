"""What a pool makes of the certificates in a directory (:mod:`bnnchain.certificates`): Dask's security."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnnchain.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE, read_files
from bnnchain.exchange.extras import load_extra
from bnnchain_kernels.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path


def read_security(directory: Path | None) -> Any:  # noqa: ANN401  (distributed carries few types)
    """Return Dask's security of a directory: TLS 1.3 on every connection, both sides' certificates demanded.

    Raises :class:`Unavailable` where a file is missing or the extra ``pool`` is.
    """
    distributed = load_extra("distributed", "pool")
    if directory is None:
        raise Unavailable("a tls pool needs --certificates DIR; make one with: bnnchain pool certificates DIR")
    read_files(directory, CA_FILE, CERTIFICATE_FILE, KEY_FILE)
    own = {
        f"tls_{role}_{part}": str(directory / name)
        for role in ("client", "scheduler", "worker")
        for part, name in (("cert", CERTIFICATE_FILE), ("key", KEY_FILE))
    }
    return distributed.Security(
        tls_ca_file=str(directory / CA_FILE), require_encryption=True, tls_min_version=_tls_1_3(), **own
    )


def _tls_1_3() -> int:
    import ssl

    return ssl.TLSVersion.TLSv1_3
