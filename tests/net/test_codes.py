from __future__ import annotations

import re
from pathlib import Path

import bnnchain.net
from bnnchain.consensus.errors import CODES as CONSENSUS_CODES
from bnnchain.net.codes import CODES

SOURCES = sorted(Path(bnnchain.net.__file__).parent.glob("*.py"))


def test_every_code_is_listed_and_every_listed_code_is_used() -> None:
    used = {code for path in SOURCES for code in re.findall(r'Invalid\(\s*"([a-z-]+)"', path.read_text())}
    # Blocks and models that a node was asked for are held against their hashes, by the rules' own codes.
    assert used - set(CONSENSUS_CODES) == set(CODES)
    assert not set(CODES) & set(CONSENSUS_CODES)
