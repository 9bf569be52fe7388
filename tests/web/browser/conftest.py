"""Two real nodes behind the page, and Debian's Chromium in front of it; collected under `make test-web` alone."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

CHROMIUM = os.environ.get("CHROMIUM")
collect_ignore_glob = [] if CHROMIUM else ["test_*.py"]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.processes import NodeProcess
    from playwright.sync_api import Browser, BrowserContext, Page

BLOCKS = 14
SEED = 3
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
BUILD = Path(__file__).resolve().parents[3] / "build" / "web"


@dataclass(frozen=True, slots=True)
class Nodes:
    """A miner, and the validator that serves the page."""

    miner: NodeProcess
    validator: NodeProcess
    url: str


@dataclass(slots=True)
class Visit:
    """A page in a tab of its own, with all that went over the wire or wrong."""

    page: Page
    url: str
    requests: list[str]
    errors: list[str]

    def open(self, path: str) -> Page:
        answer = self.page.goto(self.url + path)
        assert answer is not None
        return self.page


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A miner on the digits that makes ``BLOCKS`` blocks, and a validator that follows it."""
    from e2e.processes import NodeProcess, bnnchain

    shutil.rmtree(BUILD, ignore_errors=True)
    for name in ("screenshots", "documents"):
        (BUILD / name).mkdir(parents=True)
    directory = tmp_path_factory.mktemp("nodes")
    first, second = directory / "miner", directory / "validator"
    bnnchain("init", "--home", str(first))
    bnnchain("init", "--home", str(second), "--spec", str(first / "chain.json"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"127.0.0.1:{free.getsockname()[1]}"
    with ExitStack() as stack:
        options = ("--blocks", str(BLOCKS), "--hold", "0.5", "--seed", str(SEED), "--founding-accuracy", "75")
        miner = stack.enter_context(NodeProcess("mine", *options, home=first))
        address = miner.wait_ready()
        validator = stack.enter_context(NodeProcess("node", "--peer", address, "--web", place, home=second))
        validator.wait_ready()
        yield Nodes(miner, validator, f"http://{place}")
        for node in (validator, miner):
            assert node.stop() == 0
            assert "Traceback" not in node.stderr_file.read_text()


@pytest.fixture(scope="session")
def grown(nodes: Nodes) -> Nodes:
    """The nodes once every block is there."""
    nodes.validator.wait_height(BLOCKS)
    return nodes


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, and Playwright's event loop: it must have ended before another module's asynchronous tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A visitor with nothing in the cache."""
    made = browser.new_context(viewport={"width": 1200, "height": 800})
    yield made
    made.close()


@pytest.fixture
def visit(context: BrowserContext, nodes: Nodes) -> Iterator[Visit]:
    """A tab; afterwards nothing has left this machine and nothing has gone wrong in it."""
    made = Visit(context.new_page(), nodes.url, [], [])
    made.page.on("request", lambda request: made.requests.append(request.url))
    made.page.on("console", lambda message: made.errors.append(message.text) if message.type == "error" else None)
    made.page.on("pageerror", lambda error: made.errors.append(str(error)))
    yield made
    assert all(each.startswith((f"{nodes.url}/", "data:")) for each in made.requests), made.requests
    assert made.errors == []
