"""What of a pool needs no Dask: its addresses, its certificates, and one line that says which extra is missing."""

from __future__ import annotations

import ssl
import stat
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bnnchain.certificates import CA_FILE, CA_KEY_FILE, CERTIFICATE_FILE, KEY_FILE, write_certificates
from bnnchain.cli import cli
from bnnchain.mining.pool.address import PoolAddress, parse_pool_address
from bnnchain.mining.pool.workers import PoolOptions, WorkerPool
from bnnchain_kernels.errors import Fault, Invalid, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = PoolAddress("local", worker_count=2)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("local:2", LOCAL),
        ("tls://192.168.1.10:8786", PoolAddress("tls", "192.168.1.10", 8786)),
        ("tls://miner.lan:0", PoolAddress("tls", "miner.lan", 0)),
        ("tls://[fe80::1]:8786", PoolAddress("tls", "fe80::1", 8786)),
        ("tcp://127.0.0.1:8786", PoolAddress("tcp", "127.0.0.1", 8786)),
        ("tcp://[::1]:8786", PoolAddress("tcp", "::1", 8786)),
    ],
)
def test_addresses(text: str, address: PoolAddress) -> None:
    assert parse_pool_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "local", "local:", "local:0", "local:65", "local:-1", "local:two", "local:²",
        "tls:", "tls://", "tls://host", "tls://host:", "tls://:1", "tls://host:65536", "tls://host:x", "host:8786",
        "http://host:1", "tcp://192.168.1.10:8786", "tcp://localhost:8786", "tcp://0.0.0.0:8786",
        "tls://[[h:1", "tls://[h:1", "tls://h\0:1", "tls://h/x:1", "tls://h st:1",
    ],
)  # fmt: skip
def test_bad_addresses(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_pool_address(text)
    assert caught.value.code == "bad-pool-address"


@pytest.mark.parametrize("lanes", [0, -1, 65])
def test_bad_lanes(lanes: int) -> None:
    with pytest.raises(Invalid) as caught:
        PoolOptions(LOCAL, lanes=lanes)
    assert caught.value.code == "bad-pool"


def test_certificates_are_signed_by_an_authority_of_their_own(tmp_path: Path) -> None:
    directory = tmp_path / "pool"
    write_certificates(directory)
    authority, node = (
        x509.load_pem_x509_certificate((directory / name).read_bytes()) for name in (CA_FILE, CERTIFICATE_FILE)
    )
    node.verify_directly_issued_by(authority)
    assert not node.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for name in (CA_KEY_FILE, KEY_FILE):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
        load_pem_private_key((directory / name).read_bytes(), None)
    context = ssl.create_default_context(cafile=str(directory / CA_FILE))
    context.load_cert_chain(directory / CERTIFICATE_FILE, directory / KEY_FILE)


def test_certificates_that_are_there_stay(tmp_path: Path) -> None:
    write_certificates(tmp_path)
    before = (tmp_path / KEY_FILE).read_bytes()
    with pytest.raises(Fault, match="cannot write certificates"):
        write_certificates(tmp_path)
    assert (tmp_path / KEY_FILE).read_bytes() == before


@pytest.mark.parametrize(
    "arguments", [("--lanes", "2"), ("--certificates", "nowhere"), ("--pool", "local:2", "--lanes", "0")]
)
def test_options_that_make_no_sense(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["mine", "--home", str(tmp_path / "home"), *arguments])
    assert done.exit_code == 2


@pytest.mark.parametrize("address", ["local:2", "tls://127.0.0.1:0"])
def test_a_worker_dials_a_port(address: str) -> None:
    done = CliRunner().invoke(cli, ["pool", "worker", address])
    assert isinstance(done.exception, Invalid)
    assert done.exception.code == "bad-pool-address"


@pytest.mark.skipif(find_spec("distributed") is not None, reason="the extra pool is installed")
def test_without_the_extra_one_line_names_it() -> None:
    with pytest.raises(Unavailable, match=r"pip install 'bnnchain\[pool\]'"):
        WorkerPool(PoolOptions(LOCAL))
    done = CliRunner().invoke(cli, ["pool", "worker", "tls://127.0.0.1:8786"])
    assert isinstance(done.exception, Unavailable)
    assert "bnnchain[pool]" in str(done.exception)
