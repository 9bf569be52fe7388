"""A disk that is full, or cannot be written: one clear line, no lost block, and it goes on when there is room again."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from builders import Builder, make_spec, tiny_dataset
from e2e.processes import NodeProcess

from bnnchain.chain.store import Store
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import BlockKind, DatasetId
from bnnchain.datasets.payload import encode_payload
from bnnchain.home import Home
from bnnchain.net.client import NodeClient
from bnnchain.net.messages import Outcome

if TYPE_CHECKING:
    from pathlib import Path

SMALLEST_LIMIT_BYTES = 1 << 12


def make_home(path: Path) -> Home:
    home = Home(path)
    home.create(make_spec())
    with closing(Store(home.store_file, make_spec())) as store:
        store.put_dataset(DatasetId(tiny_dataset().manifest.dataset_id), encode_payload(tiny_dataset().pool))
    return home


async def test_a_full_disk_takes_no_block_and_loses_none(tmp_path: Path) -> None:
    """A limit on the size of files, set and lifted from outside while the node runs, stands for the disk's size."""
    raws = Builder(genesis_state(make_spec())).extend(9, kind=BlockKind.IDLE)
    home = make_home(tmp_path / "home")
    with NodeProcess("node", "--backend", "reference", home=home.path) as node:
        async with NodeClient(node.wait_ready()) as client:
            for raw in raws[:3]:
                assert (await client.announce_block(raw)).outcome == Outcome.ACCEPTED
            _, hard = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (SMALLEST_LIMIT_BYTES, hard))
            for _ in range(3):
                verdict = await client.announce_block(raws[3])
                assert verdict.outcome == Outcome.FAULT, verdict
                assert (await client.status()).height == 3
            resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
            for raw in raws[3:]:
                assert (await client.announce_block(raw)).outcome == Outcome.ACCEPTED
        assert node.stop() == 0
    errors = node.stderr_file.read_text()
    assert "Traceback" not in errors, errors
    with closing(Store(home.store_file, make_spec())) as store:
        assert [raw for _, raw in store.active_blocks(1, 99)] == raws


def run_read_only(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command while ``path`` is mounted read-only for it, or has lost its write permission."""
    command = [sys.executable, "-m", "bnnchain", *arguments]
    if os.geteuid() == 0:  # whom permission bits do not stop
        mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", mount, str(path), *command]
    else:
        path.chmod(0o500)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("arguments", [("node", "--listen", "127.0.0.1:0", "--backend", "reference"), ("repair",)])
def test_a_read_only_home_is_said_in_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    before = home.store_file.read_bytes()
    done = run_read_only(home.path, *arguments, "--home", str(home.path))
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert line.startswith(f"error: cannot write in {home.path}: "), done.stderr
    assert "Traceback" not in done.stderr
    home.path.chmod(0o700)
    assert home.store_file.read_bytes() == before


def test_a_home_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    home = tmp_path / "file" / "home"
    arguments = ["snapshot", "import", "--home", str(home), str(tmp_path / "snap")]
    (tmp_path / "snap").write_bytes(b"junk")
    done = subprocess.run(
        [sys.executable, "-m", "bnnchain", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "bad-snapshot" in done.stderr
