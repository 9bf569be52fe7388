"""Fuzzes every target in turn for its share of the time and writes what libFuzzer counted.

campaign.py --seconds 900 [--targets header,rpc] [--directory build/fuzz] [--json FILE] [--keep]

An input that breaks a target's promise is kept in the directory, named, and the exit code is 1.  With ``--keep`` the
inputs that reached more go to the corpus that is kept in the repository.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
INPUT_TIMEOUT_S = 20
RSS_LIMIT_MB = 2_048
START_S = 60
"""For imports, instrumenting and seeds, beside the fuzzing."""
KEPT_BYTES = 24_000
"""Of the repository's corpus of one target: the smallest inputs stay."""
_DONE = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERED = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


@dataclass(frozen=True)
class Result:
    """What one target's run came to."""

    target: str
    executions: int
    seconds: float
    features: int
    corpus: int
    crashes: tuple[str, ...]


def main() -> int:
    """Run the campaign; return 1 where anything broke."""
    arguments = _parse()
    names = arguments.targets.split(",") if arguments.targets else list(TARGETS)
    total = sum(TARGETS[name].share for name in names)
    results = []
    for name in names:
        result = fuzz(name, arguments.seconds * TARGETS[name].share / total, arguments.directory)
        results.append(result)
        print(
            f"{name:16} {result.executions:>10} executions in {result.seconds:6.1f} s,"
            f" {result.features} features, {len(result.crashes)} crashes",
            flush=True,
        )
        if arguments.keep and not result.crashes:
            keep(name, arguments.directory)
    executions = sum(result.executions for result in results)
    print(f"{executions} executions, {sum(len(result.crashes) for result in results)} crashes")
    if arguments.json:
        report = {"executions": executions, "results": [asdict(result) for result in results]}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
        arguments.json.with_suffix(".md").write_text(table(results))
    return int(any(result.crashes for result in results))


def fuzz(name: str, seconds: float, directory: Path) -> Result:
    """Run one target on the repository's corpus and what earlier runs in ``directory`` found."""
    found, artifacts = directory / "found" / name, directory / "crashes" / name
    for path in (found, artifacts):
        path.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (found / f"seed{number}").write_bytes(seed)
    options = [f"-max_total_time={max(1, round(seconds))}", f"-artifact_prefix={artifacts}/"]
    before = set(artifacts.iterdir())
    start = time.monotonic()
    output = _run(name, [*_options(name, directory), *options, str(found), str(CORPUS / name)], seconds + START_S + 120)
    took = time.monotonic() - start
    crashes = [path.name for path in sorted(set(artifacts.iterdir()) - before)]
    done, covered = _DONE.search(output), _COVERED.findall(output)
    if done is None and not crashes:
        crashes = ["ended without its counts: " + output[-600:]]
    if crashes:
        print(output[-3_000:], file=sys.stderr)
    features, corpus = (int(covered[-1][1]), int(covered[-1][2])) if covered else (0, 0)
    return Result(name, int(done[1]) if done else _last_count(output), took, features, corpus, tuple(crashes))


def table(results: list[Result]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| target | executions | seconds | features | crashes |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {each.target} | {each.executions:,} | {each.seconds:.0f} | {each.features:,} | {len(each.crashes)} |"
        for each in results
    ]
    executions, seconds = sum(each.executions for each in results), sum(each.seconds for each in results)
    crashes = sum(len(each.crashes) for each in results)
    return "\n".join([*lines, f"| all | {executions:,} | {seconds:.0f} | | {crashes} |"]) + "\n"


def keep(name: str, directory: Path) -> None:
    """Put what was found into the repository's corpus, smallest inputs first, up to its limit.

    libFuzzer has kept only inputs that reached something new, and each of them as short as it found it.
    """
    kept, found = CORPUS / name, directory / "found" / name
    kept.mkdir(parents=True, exist_ok=True)
    seeds = set(TARGETS[name].seeds())
    every = {path.read_bytes() for folder in (kept, found) for path in folder.iterdir()} - seeds
    for path in kept.iterdir():
        path.unlink()
    size_bytes = 0
    for data in sorted(every, key=lambda each: (len(each), each)):
        size_bytes += len(data)
        if size_bytes <= KEPT_BYTES:
            (kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def _options(name: str, directory: Path) -> list[str]:
    target = TARGETS[name]
    options = [
        f"-max_len={target.max_size_bytes}",
        f"-timeout={INPUT_TIMEOUT_S}",
        f"-rss_limit_mb={RSS_LIMIT_MB}",
        "-print_final_stats=1",
    ]
    if target.tokens:
        dictionary = directory / f"{name}.dict"
        lines = ["".join(f"\\x{octet:02x}" for octet in token) for token in target.tokens]
        dictionary.write_text("".join(f'"{line}"\n' for line in lines))
        options.append(f"-dict={dictionary}")
    return options


def _run(name: str, options: list[str], timeout_s: float) -> str:
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("fuzz_one.py")), name, *options]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode(errors="replace")
    return done.stdout.decode(errors="replace")


def _last_count(output: str) -> int:
    counts = re.findall(r"^#(\d+)", output, re.MULTILINE)
    return int(counts[-1]) if counts else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--targets", default="")
    parser.add_argument("--directory", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
