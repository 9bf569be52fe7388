"""What `bnnchain show` says of alarms and agreement, and what a node prints when history was rewritten."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from builders import make_spec
from click.testing import CliRunner

from bnnchain.chain.store import DeepReorg, Store
from bnnchain.cli.inspect import show
from bnnchain.cli.run import Printer
from bnnchain.cli.status import describe_agreement
from bnnchain.consensus.errors import Unavailable
from bnnchain.consensus.types import BlockId
from bnnchain.home import Home
from bnnchain.net.messages import Agreement, NewHead
from bnnchain.node import NodeOptions
from bnnchain.service.supervisor import Supervisor

if TYPE_CHECKING:
    from pathlib import Path

TIP = BlockId(b"\xab" * 32)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create(make_spec())
    Store(made.store_file, made.spec()).close()
    return made


def test_show_chain_tells_of_deep_reorganisations(home: Home) -> None:
    quiet = CliRunner().invoke(show, ["chain", "--home", str(home.path)])
    assert "ALARM" not in quiet.output
    store = Store(home.store_file)
    store.activate(store.spec.genesis_header.height, (), DeepReorg(1_700_000_000, 250, TIP, 101))
    store.close()
    said = f"101 blocks left the chain at 2023-11-14T22:13:20+00:00 for {TIP.hex()} (height 250)"
    loud = CliRunner().invoke(show, ["chain", "--home", str(home.path)])
    assert f"ALARM: {said}" in loud.output
    result = json.loads(CliRunner().invoke(show, ["chain", "--home", str(home.path), "--json", "-"]).stdout)
    assert result["alarms"] == [said]


def test_show_datasets_of_a_new_chain(home: Home) -> None:
    result = json.loads(CliRunner().invoke(show, ["datasets", "--home", str(home.path), "--json", "-"]).stdout)
    [row] = result["datasets"]
    assert (row["name"], row["status"], row["families"], row["of"], row["is_here"]) == ("tiny", "active", 0, 700, False)
    assert "(pool not here)" in CliRunner().invoke(show, ["datasets", "--home", str(home.path)]).output


def test_show_node_where_nobody_listens() -> None:
    assert isinstance(CliRunner().invoke(show, ["node", "--node", "127.0.0.1:1"]).exception, Unavailable)


@pytest.mark.parametrize(
    ("agreement", "words"),
    [
        (Agreement(TIP, 3, 4), "this head (3 of 4 dialled peers)"),
        (Agreement(BlockId(b"\1" * 32), 3, 4), f"{'01' * 8} (3 of 4 dialled peers)"),
        (Agreement(None, 2, 4), "none (2 of 4 dialled peers on one tip)"),
        (Agreement(None, 0, 0), "none (0 of 0 dialled peers on one tip)"),
    ],
)
def test_agreement_in_words(agreement: Agreement, words: str) -> None:
    assert describe_agreement(agreement, TIP) == words


@pytest.mark.parametrize(("depth", "is_alarm"), [(0, False), (100, False), (101, True)])
def test_a_node_says_when_history_was_rewritten(
    home: Home, depth: int, is_alarm: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    printer = Printer(home, NodeOptions(listen="127.0.0.1:0"), Supervisor())
    printer.head(NewHead(TIP, home.spec().genesis_header, 1, depth, 0, 500))
    assert ("ALARM" in capsys.readouterr().err) is is_alarm
