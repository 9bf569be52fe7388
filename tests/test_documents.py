"""What the documents name is there: files of PROTOCOL.md's map of the paper, and a meaning for every code."""

from __future__ import annotations

import re
from pathlib import Path

from bnnchain.consensus.errors import CODES

ROOT = Path(__file__).parents[1]
PROTOCOL = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")


def test_every_file_that_the_papers_map_names_exists() -> None:
    section = PROTOCOL[PROTOCOL.index("## 13.") : PROTOCOL.index("## What is not claimed")]
    named = {name for name in re.findall(r"`([a-z_0-9/]+(?:\.py)?)`", section) if "/" in name or name.endswith(".py")}
    assert len(named) > 30
    assert [
        name for name in sorted(named) if not any((ROOT / top / name).exists() for top in ("", "miner/bnnchain"))
    ] == []


def test_every_code_of_a_block_or_transaction_is_in_the_protocol() -> None:
    assert [code for code in CODES if not re.search(rf"\b{re.escape(code)}\b", PROTOCOL)] == []
