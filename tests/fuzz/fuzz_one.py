"""One target under atheris: fuzz_one.py TARGET [libFuzzer's options and corpus folders].

Only this file needs atheris; the targets run anywhere.
"""

from __future__ import annotations

import random
import resource
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["bnnchain", "bnnchain_kernels"]):
    from fuzz.targets import TARGETS

MEMORY_BYTES = 2 << 30
"""Of address space, beside what the imports took: an allocation that an input merely claims must fail."""
FREE_SHARE = 0.25
"""Of a custom mutator's calls, left to libFuzzer's own changes."""


def main() -> None:
    """Fuzz until libFuzzer's limits are reached; an input that breaks a target's promise ends the process."""
    target = TARGETS[sys.argv.pop(1)]
    target.seeds()  # builds what the target needs before the limit counts
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    atheris.Setup(sys.argv, target.run, **_mutator(target.name))
    atheris.Fuzz()


def _mutator(name: str) -> dict[str, object]:
    mutate = TARGETS[name].mutate
    if mutate is None:
        return {}

    def custom(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < FREE_SHARE:
            return bytes(atheris.Mutate(data, max_size))
        return mutate(bytes(data), rng)[:max_size]

    return {"custom_mutator": custom}


if __name__ == "__main__":
    main()
