"""Certificates of a pool: an authority that signs nothing but one operator's machines; both sides show theirs.

A directory holds ``ca.pem``, ``ca.key`` (keep it off the workers), ``node.pem`` and ``node.key``.  Copy ``ca.pem`` and
the node's two files to every worker.
"""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING, Any

from bnnchain.exchange.extras import load_extra
from bnnchain_kernels.errors import Fault, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

CA_FILE, CA_KEY_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.pem", "ca.key", "node.pem", "node.key"
VALID_DAYS = 3650
"""Renewing means making new ones: nothing else trusts this authority."""
CLOCK_SKEW_DAYS = 1
"""Boards without a battery wake up in the past."""
PUBLIC_MODE, PRIVATE_MODE = 0o644, 0o600


def write_certificates(directory: Path) -> None:
    """Make an authority and one certificate that it signed; raises :class:`Fault` where files are there already."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("bnnchain pool authority", authority_key, None, authority_key)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = _certificate("bnnchain pool", key, authority, authority_key, usages)
    files = (
        (CA_FILE, _pem(authority), PUBLIC_MODE),
        (CA_KEY_FILE, _private_pem(authority_key), PRIVATE_MODE),
        (CERTIFICATE_FILE, _pem(certificate), PUBLIC_MODE),
        (KEY_FILE, _private_pem(key), PRIVATE_MODE),
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content, mode in files:
            with os.fdopen(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
    except OSError as error:
        raise Fault(f"cannot write certificates to {directory}: {error.strerror}") from error


def read_security(directory: Path | None) -> Any:  # noqa: ANN401  (distributed carries few types)
    """Return Dask's security of a directory: TLS 1.3 on every connection, both sides' certificates demanded.

    Raises :class:`Unavailable` where a file is missing or the extra ``pool`` is.
    """
    distributed = load_extra("distributed", "pool")
    if directory is None:
        raise Unavailable("a tls pool needs --certificates DIR; make one with: bnnchain pool certificates DIR")
    missing = [name for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE) if not (directory / name).is_file()]
    if missing:
        raise Unavailable(f"{directory} lacks {', '.join(missing)}; make them with: bnnchain pool certificates DIR")
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


def _certificate(name: str, key: Any, issuer: Any, issuer_key: Any, usages: list[Any] | None = None) -> Any:  # noqa: ANN401
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=CLOCK_SKEW_DAYS))
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=0 if issuer is None else None), True)  # noqa: FBT003
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)  # noqa: FBT003
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)  # noqa: FBT003
        .add_extension(_key_usage(is_authority=issuer is None), True)  # noqa: FBT003
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)  # noqa: FBT003
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(*, is_authority: bool) -> Any:  # noqa: ANN401
    from cryptography import x509

    unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    flags = dict.fromkeys((*unused, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority, **flags)


def _pem(certificate: Any) -> bytes:  # noqa: ANN401
    from cryptography.hazmat.primitives.serialization import Encoding

    content: bytes = certificate.public_bytes(Encoding.PEM)
    return content


def _private_pem(key: Any) -> bytes:  # noqa: ANN401
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    content: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return content
