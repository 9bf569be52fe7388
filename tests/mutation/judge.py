"""Run the fast consensus tests on a mutant, those of its module first: what kills it is most often there.

Run in a copy made by ``mutate.py``, whose ``pristine.json`` has the digests of the files as they were.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

PRISTINE = Path("pristine.json")
TESTS = ("tests/consensus", "tests/chain/test_refusals.py")
RELATED = {
    "booking": ("booking", "ledger"),
    "header": ("codec", "stale"),
    "learning": ("learning", "rows"),
    "lineage": ("learning", "transition"),
    "params": ("params", "schedule"),
    "registry": ("registry", "schedule"),
    "state": ("ledger", "registry"),
    "transactions": ("booking", "codec"),
    "transition": ("transition", "stale"),
    "types": ("codec",),
}


def digests(package: Path) -> dict[str, str]:
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(package.glob("*.py"))}


def first_tests(changed: list[str]) -> list[str]:
    names = [name for stem in changed for name in RELATED.get(stem, (stem,))]
    paths = [Path(f"tests/consensus/test_{name}.py") for name in names]
    return [str(path) for path in paths if path.exists()]


class NoShrinking:
    """A mutant is killed by any example; finding the smallest one would take most of the time."""

    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings  # after pytest, which rewrites its assertions

        settings.register_profile("mutation", settings.default, phases=(Phase.explicit, Phase.generate), database=None)
        settings.load_profile("mutation")


if __name__ == "__main__":
    before = json.loads(PRISTINE.read_text(encoding="utf-8"))
    now = digests(Path("miner/bnnchain/consensus"))
    chosen = first_tests([stem for stem, digest in now.items() if before.get(stem) != digest])
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--no-header", "--tb=no"]
    status = pytest.main([*options, *chosen], [NoShrinking()]) if chosen else 0
    rest = [*options, *TESTS, *(f"--ignore={path}" for path in chosen)]
    sys.exit(status or pytest.main(rest, [NoShrinking()]))
