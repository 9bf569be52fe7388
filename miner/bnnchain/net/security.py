"""Mutual TLS between nodes: both sides show a certificate of one authority (:mod:`bnnchain.certificates`)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from bnnchain.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE, NODE_NAME, read_files
from bnnchain.consensus.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Security:
    """The authority, and this side's certificate and key, as PEM."""

    authority: bytes
    certificate: bytes
    key: bytes = field(repr=False)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return what a server demands and shows: a guest without a certificate of the authority is not let in."""
        pair = ((self.key, self.certificate),)
        return grpc.ssl_server_credentials(pair, root_certificates=self.authority, require_client_auth=True)

    def channel(self, target: str, options: Sequence[tuple[str, object]]) -> grpc.aio.Channel:
        """Return a connection to ``target`` that is made only to a node of the authority."""
        credentials = grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)
        return grpc.aio.secure_channel(
            target, credentials, options=(*options, ("grpc.ssl_target_name_override", NODE_NAME))
        )


def read_security(directory: Path) -> Security:
    """Return the certificates of a directory.

    Raises :class:`Unavailable` where a file is missing, :class:`Fault` where one is damaged, or out of its time, or the
    key is another certificate's: gRPC itself would only refuse every connection.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    files = read_files(directory, CA_FILE, CERTIFICATE_FILE, KEY_FILE)
    try:
        authority = x509.load_pem_x509_certificate(files[CA_FILE])
        certificate = x509.load_pem_x509_certificate(files[CERTIFICATE_FILE])
        key = load_pem_private_key(files[KEY_FILE], None)
    except (ValueError, TypeError) as error:
        raise Fault(f"the certificates in {directory} are damaged: {error}") from error
    if key.public_key() != certificate.public_key():
        raise Fault(f"{directory}: {KEY_FILE} is not the key of {CERTIFICATE_FILE}")
    now = dt.datetime.now(dt.timezone.utc)
    for name, each in ((CA_FILE, authority), (CERTIFICATE_FILE, certificate)):
        if not each.not_valid_before_utc <= now <= each.not_valid_after_utc:
            raise Fault(f"{directory / name} is valid from {each.not_valid_before_utc} to {each.not_valid_after_utc}")
    return Security(files[CA_FILE], files[CERTIFICATE_FILE], files[KEY_FILE])
