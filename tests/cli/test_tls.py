"""`bnnchain tls`, and `--tls` of a node and of the commands that ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from e2e.processes import NodeProcess, bnnchain, bnnchain_json

from bnnchain.certificates import CA_FILE, CA_KEY_FILE, CERTIFICATE_FILE, KEY_FILE
from bnnchain.cli.tls import tls

if TYPE_CHECKING:
    from pathlib import Path


def test_init_and_issue_say_what_goes_where(tmp_path: Path) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    made = CliRunner().invoke(tls, ["init", str(ours)])
    assert made.exit_code == 0, made.output
    assert f"--tls {ours}" in made.output
    assert "bnnchain tls issue" in made.output
    assert {file.name for file in ours.iterdir()} == {CA_FILE, CA_KEY_FILE, CERTIFICATE_FILE, KEY_FILE}
    assert all((ours / name).stat().st_mode & 0o777 == 0o600 for name in (CA_KEY_FILE, KEY_FILE))
    issued = CliRunner().invoke(tls, ["issue", str(ours), str(other), "--days", "30"])
    assert issued.exit_code == 0, issued.output
    assert {file.name for file in other.iterdir()} == {CA_FILE, CERTIFICATE_FILE, KEY_FILE}


@pytest.mark.slow
def test_a_node_with_tls_answers_who_has_a_certificate_and_nobody_else(tmp_path: Path) -> None:
    ours, other, theirs = (str(tmp_path / name) for name in ("ours", "other", "theirs"))
    bnnchain("tls", "init", ours)
    bnnchain("tls", "issue", ours, other)
    bnnchain("tls", "init", theirs)
    home = tmp_path / "home"
    with NodeProcess("node", "--tls", ours, "--backend", "reference", home=home) as node:
        address = node.wait_ready()
        status = bnnchain_json("show", "node", "--node", address, "--tls", other)
        assert status["height"] == 0
        for arguments, words in (
            (["--tls", theirs], "its certificate is of another authority"),
            ([], "may want TLS (--tls DIR)"),
            (["--tls", str(home)], "lacks ca.pem, node.pem, node.key"),
        ):
            refused = bnnchain("show", "node", "--node", address, *arguments, check=False)
            assert refused.returncode == 1
            [line] = refused.stderr.splitlines()
            assert line.startswith("error: ")
            assert words in line
        assert node.stop() == 0
    bare = bnnchain("node", "--home", str(home), "--listen", "0.0.0.0:0", check=False)
    assert bare.returncode == 1
    assert "insecure-address" in bare.stderr.splitlines()[-1]
