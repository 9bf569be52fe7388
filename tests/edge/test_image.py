"""The Dockerfile's steps executed in order, and the node that its CMD starts: who it is, and how it is asked."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from edge.image import Image, build

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = REPOSITORY / "miner/deploy/Dockerfile"
PATIENCE_S = 90


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    roots = os.environ.get("EDGE_ROOTS")
    assert roots, "run `make test-edge`: it makes the roots that EDGE_ROOTS names"
    directory = tmp_path_factory.mktemp("image")
    context = directory / "context"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(context)], check=True)
    yield build(DOCKERFILE, context, Path(roots).resolve() / "slim", directory)
    shutil.rmtree(directory)


class Container:
    """The image's process in mount, process and network namespaces of its own."""

    def __init__(self, image: Image, *command: str) -> None:
        self._image = image
        start = image.inside(*image.entrypoint, *(command or image.command))
        script = f"mount -t proc proc {image.root}/proc && ip link set lo up && exec {shlex.join(start)}"
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def main(self) -> int:
        """Return the process id, as this machine calls it, of the container's first process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        deadline = time.monotonic() + PATIENCE_S
        while not (pids := children.read_text().split()):
            assert time.monotonic() < deadline, "the container did not start"
            time.sleep(0.05)
        return int(pids[0])

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "--target", str(self.main()), "--mount", "--pid", "--net"]
        return subprocess.run(
            [*enter, *self._image.inside(*command)], capture_output=True, text=True, timeout=60, check=False
        )

    def is_healthy(self) -> bool:
        return self.run(*self._image.health).returncode == 0

    def stop(self) -> str:
        os.kill(self.main(), signal.SIGTERM)
        return self.process.communicate(timeout=30)[0]


def wait_healthy(container: Container) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not container.is_healthy():
        assert time.monotonic() < deadline, "the node never was healthy"
        time.sleep(0.5)


@pytest.mark.timeout(900)
def test_the_image_runs_a_node_that_is_healthy_and_nobody_important(image: Image) -> None:
    home = image.root / "var/lib/bnnchain"
    container = Container(image)
    try:
        wait_healthy(container)
        status = Path(f"/proc/{container.main()}/status").read_text()
        assert "Uid:\t10001\t10001\t10001\t10001" in status
        shown = container.run("bnnchain", "show", "node")
        assert shown.returncode == 0, shown.stderr
        assert "backend      c" in shown.stdout
    finally:
        said = container.stop()
    assert container.process.returncode == 0, said
    assert "listening on 127.0.0.1:9555" in said
    assert "Traceback" not in said
    assert (home / "chain.json").stat().st_uid == 10001


@pytest.mark.timeout(300)
def test_the_last_stage_has_no_compiler_and_a_dead_node_is_not_healthy(image: Image) -> None:
    for tool in ("gcc", "cc", "git", "make"):
        assert not (image.root / "usr/bin" / tool).exists(), tool
    assert (image.root.parent / "build/usr/bin/gcc").exists()
    asked = subprocess.run(
        ["unshare", "--net", *image.inside(*image.health)], capture_output=True, timeout=60, check=False
    )
    assert asked.returncode != 0


@pytest.mark.timeout(300)
def test_a_mounted_chain_is_joined(image: Image, tmp_path: Path) -> None:
    from e2e.processes import bnnchain, bnnchain_json

    bnnchain("init", "--home", str(tmp_path / "miner"))
    mounted = image.root / "etc/bnnchain"
    mounted.mkdir()
    (mounted / "node.toml").write_text('log-level = "debug"\n')
    shutil.copy(tmp_path / "miner/chain.json", mounted / "chain.json")
    shutil.rmtree(image.root / "var/lib/bnnchain")
    (image.root / "var/lib/bnnchain").mkdir()
    os.chown(image.root / "var/lib/bnnchain", 10001, 10001)
    container = Container(image)
    try:
        wait_healthy(container)
        assert '"debug"' in container.stop()
    finally:
        container.process.kill()
    wanted = bnnchain_json("spec", "check", str(tmp_path / "miner/chain.json"))["genesis"]
    assert bnnchain_json("spec", "check", str(image.root / "var/lib/bnnchain/chain.json"))["genesis"] == wanted
