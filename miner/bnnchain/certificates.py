"""Certificates of one operator's or one consortium's machines: an authority that signs nothing else.

A directory holds ``ca.pem``, ``ca.key`` (where certificates are made, and nowhere else), ``node.pem`` and ``node.key``.
Whoever holds a certificate of the authority is let in: it says *one of ours*, not which one.  Nodes mine pools and
talk to each other with the same kind of certificate.
"""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING, Any

from bnnchain_kernels.errors import Fault, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

CA_FILE, CA_KEY_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.pem", "ca.key", "node.pem", "node.key"
NODE_NAME = "bnnchain-node"
"""In every certificate, and what both sides ask for: machines change their addresses."""
VALID_DAYS = 3650
CLOCK_SKEW_DAYS = 1
"""Boards without a battery wake up in the past."""
PUBLIC_MODE, PRIVATE_MODE = 0o644, 0o600
MAX_FILE_BYTES = 1 << 16


def write_certificates(directory: Path, valid_days: int = VALID_DAYS) -> None:
    """Make an authority and one certificate that it signed; raises :class:`Fault` where files are there already."""
    from cryptography.hazmat.primitives.asymmetric import ec

    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("bnnchain authority", authority_key, None, authority_key, valid_days)
    files = ((CA_FILE, _pem(authority), PUBLIC_MODE), (CA_KEY_FILE, _private_pem(authority_key), PRIVATE_MODE))
    _write_new(directory, (*files, *_issue(authority, authority_key, valid_days)))


def issue_certificate(authority_directory: Path, directory: Path, valid_days: int = VALID_DAYS) -> None:
    """Make a certificate of its own for another machine: ``ca.pem``, ``node.pem`` and ``node.key`` in ``directory``.

    Raises :class:`Unavailable` where the authority is not in ``authority_directory``, :class:`Fault` where it is
    damaged or files are in ``directory`` already.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = read_files(authority_directory, CA_FILE, CA_KEY_FILE)
    try:
        authority = x509.load_pem_x509_certificate(content[CA_FILE])
        key = load_pem_private_key(content[CA_KEY_FILE], None)
        issued = _issue(authority, key, valid_days)
    except (ValueError, TypeError) as error:
        raise Fault(f"the authority in {authority_directory} is damaged: {error}") from error
    _write_new(directory, ((CA_FILE, content[CA_FILE], PUBLIC_MODE), *issued))


def read_files(directory: Path, *names: str) -> dict[str, bytes]:
    """Return the content of a directory's files by name; raises :class:`Unavailable` where one is missing."""
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise Unavailable(f"{directory} lacks {', '.join(missing)}; make them with: bnnchain tls init DIR")
    try:
        return {name: _read(directory / name) for name in names}
    except OSError as error:
        raise Unavailable(f"cannot read the certificates in {directory}: {error.strerror}") from error


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES)


def _write_new(directory: Path, files: tuple[tuple[str, bytes, int], ...]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content, mode in files:
            with os.fdopen(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
    except OSError as error:
        raise Fault(f"cannot write certificates to {directory}: {error.strerror}") from error


def _issue(authority: Any, authority_key: Any, valid_days: int) -> tuple[tuple[str, bytes, int], ...]:  # noqa: ANN401
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = _certificate(NODE_NAME, key, authority, authority_key, valid_days, usages)
    return (CERTIFICATE_FILE, _pem(certificate), PUBLIC_MODE), (KEY_FILE, _private_pem(key), PRIVATE_MODE)


def _certificate(
    name: str,
    key: Any,  # noqa: ANN401
    issuer: Any,  # noqa: ANN401
    issuer_key: Any,  # noqa: ANN401
    valid_days: int,
    usages: list[Any] | None = None,
) -> Any:  # noqa: ANN401
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
        .not_valid_before(now - dt.timedelta(days=CLOCK_SKEW_DAYS + max(0, -valid_days)))
        .not_valid_after(now + dt.timedelta(days=valid_days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=0 if issuer is None else None), True)  # noqa: FBT003
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)  # noqa: FBT003
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)  # noqa: FBT003
        .add_extension(_key_usage(is_authority=issuer is None), True)  # noqa: FBT003
    )
    if usages:
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False).add_extension(names, False)  # noqa: FBT003
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
