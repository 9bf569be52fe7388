"""Do the fast consensus tests notice a mutant?  Judges, in a copy made by ``mutate.py``, every mutant of a session.

    judge.py baseline                 run the tests on what is not changed; keep which lines each runs, and how long
    judge.py session.sqlite           judge the session's pending mutants
    judge.py again tests.json         run the tests named in a file in a new process; the last word on a survivor

A mutant of a function is judged in a fork of a process that has collected every test: the function gets the mutant's
code, and the tests that run its line follow, the shortest first.  Where that shows nothing, and for mutants of what
runs at import, the file is changed and a new process judges.  A limit of processor time, not of the clock, ends loops,
so that a busy machine kills nothing.
"""

from __future__ import annotations

import ast
import difflib
import gc
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager, suppress
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

import coverage
import pytest
from _pytest.main import pytest_runtestloop
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosmic_ray.work_item import MutationSpec

TESTS = ("tests/consensus", "tests/chain/test_refusals.py")
PACKAGE = Path("miner/bnnchain/consensus")
LINES = Path("lines.json")
CHOSEN = Path("chosen.json")
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--no-header", "--tb=no", "--assert=plain"]
LEAST_CPU_S, CPU_FACTOR = 20, 5
MAX_MEMORY_BYTES = 8 << 30


class Quick:
    """A mutant is killed by any example: the smallest one would take most of the time.  The same ones in every run."""

    def pytest_configure(self) -> None:
        from hypothesis import HealthCheck, Phase, settings  # after pytest, which may rewrite its assertions

        settings.register_profile(
            "mutation",
            settings.default,
            phases=(Phase.explicit, Phase.generate),
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutation")


class Selecting(Quick):
    """Runs the tests of a list, in its order."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        select(items, self._names)


class Timing(Quick):
    """Keeps how long each test takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


class Judging(Quick):
    """Judges the pending mutants of a session with the tests that pytest has collected."""

    def __init__(self, session: Path, tests: Tests) -> None:
        self._session = session
        self._tests = tests

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        functions = living_functions()
        with use_db(str(self._session), WorkDB.Mode.open) as database:
            for work in list(database.pending_work_items):
                database.set_result(work.job_id, self._judge(session, work.mutations[0], functions))
        return True

    def _judge(
        self, session: pytest.Session, mutation: MutationSpec, functions: dict[tuple[str, str, int], list[FunctionType]]
    ) -> WorkResult:
        path = Path(mutation.module_path)
        before = path.read_text(encoding="utf-8")
        operator = get_operator(mutation.operator_name)(**mutation.operator_args)
        after = MutationVisitor.mutate_code(before, operator, mutation.occurrence)
        if after is None:
            return WorkResult(worker_outcome=WorkerOutcome.NO_TEST)
        names, limit_s = self._tests.chosen_for(path, before, mutation.start_pos[0])
        outcome = TestOutcome.SURVIVED
        try:
            swaps = [
                (functions[path.name, old.co_qualname, old.co_firstlineno], new)
                for old, new in changed_functions(*(compile(text, str(path), "exec") for text in (before, after)))
            ]
        except (SyntaxError, ValueError):
            outcome = TestOutcome.KILLED
        except KeyError:
            names, limit_s = self._tests.all_for(path)
        else:
            outcome = in_fork(session, names, limit_s, swaps)
        if outcome == TestOutcome.SURVIVED:
            with changed(path, before, after):
                outcome = in_new_process(names, limit_s)
        return WorkResult(WorkerOutcome.NORMAL, "", outcome, difference(before, after))


class Tests:
    """Which tests run which line, and how long each takes."""

    def __init__(self, kept: dict[str, dict[str, dict[str, list[str]]] | dict[str, float]]) -> None:
        self._lines, self._seconds = kept["lines"], kept["seconds"]

    def chosen_for(self, path: Path, source: str, row: int) -> tuple[list[str], float]:
        """Return the tests that run the statement of a row, and the processor seconds they may take."""
        lines = self._lines.get(path.name, {})
        found = {name for line in statement_of(source, row) for name in lines.get(str(line), ())}
        return self._limited(sorted(found, key=self._order)) if found else self.all_for(path)

    def all_for(self, path: Path) -> tuple[list[str], float]:
        """Return all tests, those that run anything of a module first."""
        touching = {name for names in self._lines.get(path.name, {}).values() for name in names}
        return self._limited(sorted(self._seconds, key=lambda name: (name not in touching, *self._order(name))))

    def _order(self, name: str) -> tuple[float, str]:
        return self._seconds[name], name

    def _limited(self, names: list[str]) -> tuple[list[str], float]:
        return names, LEAST_CPU_S + CPU_FACTOR * sum(self._seconds[name] for name in names)


def main() -> int:
    arguments = sys.argv[1:]
    if arguments == ["baseline"]:
        return baseline()
    if arguments[0] == "again":
        return pytest.main([*OPTIONS, *TESTS], [Selecting(json.loads(Path(arguments[1]).read_text()))])
    tests = Tests(json.loads(LINES.read_text(encoding="utf-8")))
    return pytest.main([*OPTIONS, *TESTS], [Judging(Path(arguments[0]), tests)])


def baseline() -> int:
    timing = Timing()
    measured = coverage.Coverage(source=[str(PACKAGE)], data_file=None, config_file=False)

    class Contexts(Timing):
        def pytest_runtest_setup(self, item: pytest.Item) -> None:
            measured.switch_context(item.nodeid)

    measured.start()
    status = pytest.main([*OPTIONS, *TESTS], [timing, Contexts()])
    measured.stop()
    data = measured.get_data()
    lines = {
        Path(path).name: {
            str(line): sorted(filter(None, names))
            for line, names in data.contexts_by_lineno(path).items()
            if any(names)
        }
        for path in data.measured_files()
    }
    LINES.write_text(json.dumps({"lines": lines, "seconds": timing.seconds}), encoding="utf-8")
    return status


def select(items: list[pytest.Item], names: list[str]) -> None:
    by_name = {item.nodeid: item for item in items}
    items[:] = [by_name[name] for name in names if name in by_name]


def statement_of(source: str, row: int) -> range:
    """Return the lines of the smallest statement of a row; of a compound one, those above its body."""
    best = range(row, row + 1)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            continue
        body = getattr(node, "body", None)
        start = getattr(node, "lineno", None) or node.pattern.lineno  # a case has no line of its own
        end = (node.end_lineno or start) if not body else max(start, body[0].lineno - 1)
        if start <= row <= end:
            best = range(start, end + 1)
    return best


def changed_functions(before: CodeType, after: CodeType) -> list[tuple[CodeType, CodeType]]:
    """Return the functions that differ; raises :class:`KeyError` where what runs at import does."""
    inner = [[each for each in code.co_consts if isinstance(each, CodeType)] for code in (before, after)]
    if own(before) != own(after) or len(inner[0]) != len(inner[1]):
        raise KeyError(before.co_name)
    found = []
    for old, new in zip(*inner, strict=True):
        if old == new:
            continue
        found += [(old, new)] if old.co_flags & CO_OPTIMIZED else changed_functions(old, new)
    return found


def own(code: CodeType) -> tuple[object, ...]:
    constants = [(type(each), each) for each in code.co_consts if not isinstance(each, CodeType)]
    return code.co_code, code.co_names, code.co_varnames, constants


def living_functions() -> dict[tuple[str, str, int], list[FunctionType]]:
    """Return the consensus's functions by file, qualified name and first line."""
    found: dict[tuple[str, str, int], list[FunctionType]] = {}
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and PACKAGE.as_posix() in each.__code__.co_filename:
            code = each.__code__
            found.setdefault((Path(code.co_filename).name, code.co_qualname, code.co_firstlineno), []).append(each)
    return found


def in_fork(
    session: pytest.Session, names: list[str], limit_s: float, swaps: list[tuple[list[FunctionType], CodeType]]
) -> TestOutcome:
    child = os.fork()
    if child == 0:
        status = 1
        with suppress(BaseException):
            limit(limit_s)
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            for found, code in swaps:
                for function in found:
                    function.__code__ = code
            for each in gc.get_objects():
                if hasattr(type(each), "cache_clear"):
                    each.cache_clear()
            select(session.items, names)
            pytest_runtestloop(session)
            status = int(session.testsfailed > 0)
        os._exit(status)
    return TestOutcome.KILLED if os.waitpid(child, 0)[1] else TestOutcome.SURVIVED


def in_new_process(names: list[str], limit_s: float) -> TestOutcome:
    CHOSEN.write_text(json.dumps(names), encoding="utf-8")
    command = [sys.executable, __file__, "again", str(CHOSEN)]
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=lambda: limit(limit_s), check=False
    )
    return TestOutcome.KILLED if done.returncode else TestOutcome.SURVIVED


def limit(cpu_s: float) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s), int(cpu_s) + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))


@contextmanager
def changed(path: Path, before: str, after: str) -> Iterator[None]:
    path.write_text(after, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


def difference(before: str, after: str) -> str:
    return "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0))


if __name__ == "__main__":
    sys.exit(main())
