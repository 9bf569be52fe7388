"""Would the tests notice if a rule were a little different?  Mutation testing of ``bnnchain.consensus`` by cosmic-ray.

    python tests/mutation/mutate.py --directory build/mutation --sample 1000 --workers 2 [--limit-s 3600]

Draws a seeded sample of all mutants and splits it among workers with a copy of the last commit each; ``judge.py`` runs
the fast consensus tests on every mutant.  What was run is kept in DIRECTORY, so an ended run goes on where it stopped;
remove the directory to begin with another commit.  Type annotations are left alone: nobody runs them.
``make test-mutation`` makes what it needs.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome
from judge import LINES

if TYPE_CHECKING:
    from cosmic_ray.work_item import WorkItem

ROOT = Path(__file__).parents[2]
PACKAGE = Path("miner/bnnchain/consensus")
SEED = 20_261_122
CONFIG = """[cosmic-ray]
module-path = "{package}"
timeout = 60
excluded-modules = []
test-command = "judge.py"
[cosmic-ray.distributor]
name = "local"
"""


def main() -> None:
    options = read_options()
    options.directory.mkdir(parents=True, exist_ok=True)
    commit = fixed_commit(options.directory / "commit")
    copies = [options.directory / f"copy-{number}" for number in range(options.workers)]
    for copy in copies:
        if not copy.exists():
            make_copy(copy, commit)
    sessions = [copy / "session.sqlite" for copy in copies]
    if not all(session.exists() for session in sessions):
        # Where the tests fail on what is not changed, every mutant would count as killed.
        if judge(copies[0], "baseline").wait():
            sys.exit("the tests fail on what is not changed")
        for copy in copies[1:]:
            shutil.copy(copies[0] / LINES, copy / LINES)
        distribute(copies, sessions, options.sample)
    run(copies, options.limit_s)
    for copy in copies:  # A mutant that was cut off is still in its file.
        extract(copy, commit, str(PACKAGE))
    sys.exit(report(sessions, options.directory / "mutation.json"))


def fixed_commit(path: Path) -> str:
    """Return the commit that the directory is about: the last one when it was made."""
    if not path.exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
        path.write_text(head.stdout, encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def make_copy(copy: Path, commit: str) -> None:
    """Write a commit into ``copy``: cosmic-ray changes files where they lie."""
    copy.mkdir()
    extract(copy, commit)
    (copy / "mutation.toml").write_text(CONFIG.format(package=PACKAGE), encoding="utf-8")


def extract(copy: Path, commit: str, *paths: str) -> None:
    """Write the files of a commit, all or those below ``paths``, into ``copy``."""
    archive = subprocess.run(["git", "archive", commit, *paths], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", str(copy)], check=True, input=archive.stdout)


def distribute(copies: list[Path], sessions: list[Path], sample: int) -> None:
    """Write each worker's share of the sampled mutants into its session."""
    whole = copies[0] / "all.sqlite"
    call(copies[0], "init", "mutation.toml", whole.name)
    with use_db(str(whole)) as database:
        items = sorted(database.work_items, key=place_of)
    items = [item for item in items if not is_annotation(copies[0], item)]
    chosen = random.Random(SEED).sample(items, min(sample, len(items)))
    print(f"{len(chosen)} of {len(items)} mutants")
    for number, session in enumerate(sessions):
        with use_db(str(session)) as database:
            database.add_work_items(chosen[number :: len(sessions)])


def place_of(item: WorkItem) -> tuple[str, str, int]:
    mutation = item.mutations[0]
    return str(mutation.module_path), mutation.operator_name, mutation.occurrence


def is_annotation(copy: Path, item: WorkItem) -> bool:
    """Tell whether a mutant changes only what type checkers read."""
    mutation = item.mutations[0]
    return any(start <= mutation.start_pos < end for start, end in annotations(copy / mutation.module_path))


@cache
def annotations(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return (start, end), each as (row, column), of a file's annotations."""
    found: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
    return [
        ((each.lineno, each.col_offset), (each.end_lineno or 0, each.end_col_offset or 0)) for each in found if each
    ]


def run(copies: list[Path], limit_s: float) -> None:
    """Run every mutant that has not been, in all copies at once, until ``limit_s`` have passed."""
    deadline = time.monotonic() + limit_s
    running = [judge(copy, "session.sqlite") for copy in copies]
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(1.0, deadline - time.monotonic()))
    for process in running:
        process.terminate()
        process.wait()


def judge(copy: Path, *arguments: str) -> subprocess.Popen[bytes]:
    path = ":".join(str(copy.absolute() / room) for room in ("miner", "kernels", "fpga"))
    settings = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).with_name("judge.py")), *arguments]
    return subprocess.Popen(command, cwd=copy, env={**os.environ, **settings})


def report(sessions: list[Path], path: Path) -> int:
    """Print and write what was killed and what survived; return 1 while mutants are left to run."""
    outcomes: Counter[str] = Counter()
    survivors, left = [], 0
    for session in sessions:
        with use_db(str(session), WorkDB.Mode.open) as database:
            left += len(list(database.pending_work_items))
            places = {item.job_id: item.mutations[0] for item in database.work_items}
            for job, result in database.results:
                outcomes[str(result.test_outcome)] += 1
                if result.test_outcome == TestOutcome.SURVIVED:
                    where = places[job]
                    survivors.append(
                        {"module": str(where.module_path), "row": where.start_pos[0], "operator": where.operator_name,
                         "diff": result.diff}
                    )  # fmt: skip
    killed, total = outcomes[str(TestOutcome.KILLED)], sum(outcomes.values())
    survivors.sort(key=lambda each: (each["module"], each["row"]))
    for each in survivors:
        print(f"survived  {each['module']}:{each['row']}  {each['operator']}")
    print(f"{killed} of {total} killed ({100 * killed / max(1, total):.1f} %), {left} left to run")
    text = json.dumps({"killed": killed, "run": total, "left": left, "survivors": survivors}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    return int(left > 0)


def call(copy: Path, *arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("cosmic-ray")), *arguments]
    subprocess.run(command, cwd=copy, check=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--sample", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit-s", type=float, default=6 * 3600)
    return parser.parse_args()


if __name__ == "__main__":
    main()
