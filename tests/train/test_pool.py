"""A pool gives what one machine gives, for any number of workers, also when one is killed; strangers stay outside."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from builders import Builder, make_spec
from e2e.processes import NodeProcess, bnnchain, bnnchain_json
from learnable import tiny_dataset

from bnnchain.bnn.encoding import encode_model
from bnnchain.bnn.zoo import architecture
from bnnchain.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE, write_certificates
from bnnchain.chain.validator import Validator
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import BlockKind, DatasetId
from bnnchain.datasets.digits import load_digits
from bnnchain.mining.evidence import TicketEvidence
from bnnchain.mining.evolve import EvolveRequest
from bnnchain.mining.pool import search as pool_search
from bnnchain.mining.pool.address import parse_pool_address
from bnnchain.mining.pool.workers import PoolOptions, WorkerPool
from bnnchain.mining.straight_through import StraightThroughFounder
from bnnchain.mining.tickets import draw_winning_ticket
from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.select import select

distributed = pytest.importorskip("distributed", reason="the extra pool is not installed")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Header

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("default::ResourceWarning")]

CLOSED = {"is_lottery_open": 0, "block_interval_s": 60}
LANES = 3
RARE = (1 << 256) // 40_000
WANTED_GAIN = 250
LONG_SEARCH_CANDIDATES = 40_000


def never() -> bool:
    return False


def open_pool(text: str, certificates: Path | None = None) -> WorkerPool:
    return WorkerPool(PoolOptions(parse_pool_address(text), certificates, LANES))


@pytest.fixture(scope="module")
def two() -> Iterator[WorkerPool]:
    with open_pool("local:2") as pool:
        yield pool


@pytest.fixture(scope="module")
def one() -> Iterator[WorkerPool]:
    with open_pool("local:1") as pool:
        yield pool


def closed_block() -> tuple[ChainState, Header]:
    """Return a state with a parent to evolve, and the header of its child on a closed lottery."""
    builder = Builder(genesis_state(make_spec()))
    while builder.place().kind != BlockKind.EVOLVE:
        builder.extend()
    header = replace(builder.next().header, target=RARE)
    return replace(builder.state, spec=make_spec(**CLOSED)), header


def make_validator() -> Validator:
    validator = Validator(select("auto"))
    validator.add_dataset(DatasetId(tiny_dataset().manifest.dataset_id), tiny_dataset().pool)
    return validator


def draw_on(pool: WorkerPool, state: ChainState, header: Header, evidence: TicketEvidence | None = None) -> Any:
    drawer, nonce = pool.drawer(state, header, make_validator(), never, evidence), 0
    while True:
        won = drawer.draw(header, nonce)
        nonce += drawer.tickets_together
        if won is not None:
            return won


def request() -> EvolveRequest:
    pool = load_digits().pool
    founded = StraightThroughFounder().found(
        architecture("cnn-digits"), pool, select("auto")(pool), seed=1, target_correct=900, max_epochs=30
    )
    return EvolveRequest(founded.model, pool, gain=WANTED_GAIN, min_flips=20, seed=5)


def search_on(pool: WorkerPool) -> tuple[bytes, int, int]:
    result = pool.search(request(), 100).run()
    assert result is not None
    return encode_model(result.child), result.correct, result.candidates


def climb_on(pool: WorkerPool) -> tuple[bytes, int]:
    """Return the best model of a search for more than can be found, and how many candidates it was judged from."""
    wanted = replace(request(), gain=380, max_candidates=LONG_SEARCH_CANDIDATES)
    search = pool.search(wanted, 100)
    assert search.run() is None
    return encode_model(search.best), search.candidates


@pytest.fixture
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    # Several rounds, so that what lanes hand each other counts too.
    monkeypatch.setattr(pool_search, "ROUND_MACS", 1 << 34)


# The same as one machine.


def test_the_lowest_winning_nonce_is_that_of_one_thread(one: WorkerPool, two: WorkerPool) -> None:
    state, header = closed_block()
    wanted = draw_winning_ticket(state, header, make_validator(), never)
    assert wanted is not None
    assert wanted.nonce > 1000, "the target is too easy to show anything"
    for pool in (one, two):
        assert draw_on(pool, state, header) == wanted


def test_tickets_are_recorded_as_evidence(two: WorkerPool) -> None:
    state, header = closed_block()
    evidence = TicketEvidence(state.families[header.family_id].best.model)
    won = draw_on(two, state, header, evidence)
    assert evidence.tickets >= won.nonce + 1


def test_a_search_does_not_depend_on_the_workers(one: WorkerPool, two: WorkerPool, short_rounds: None) -> None:
    first, second = search_on(one), search_on(two)
    assert first == second
    parent = request().parent
    pool = load_digits().pool
    evaluator = select("auto")(pool)
    assert first[1] >= count_correct(evaluator, parent, len(pool)) + WANTED_GAIN


def test_a_search_keeps_its_round_when_it_is_stopped(two: WorkerPool, short_rounds: None) -> None:
    wanted = search_on(two)
    search, slices = two.search(request(), 100), 0
    result = None
    while result is None:
        until = time.monotonic() + 0.2
        result = search.run(should_stop=lambda until=until: time.monotonic() > until)
        slices += 1
    assert slices > 1
    assert (encode_model(result.child), result.correct, result.candidates) == wanted


def test_founders_are_those_of_their_seeds_and_none_is_wasted(two: WorkerPool) -> None:
    samples, shape = load_digits().pool, architecture("cnn-digits")
    evaluator, device = select("auto")(samples), StraightThroughFounder()
    options = {"target_correct": 900, "max_epochs": 30}
    pooled = two.founder(device)
    assert pooled.name == "device"
    founded = [pooled.found(shape, samples, evaluator, seed=7, **options) for _ in range(LANES)]
    wanted = [device.found(shape, samples, evaluator, seed=7 + lane, **options) for lane in range(LANES)]
    assert [encode_model(each.model) for each in founded] == [encode_model(each.model) for each in wanted]
    assert [each.correct for each in founded] == [each.correct for each in wanted]
    assert all(each.correct >= 900 for each in founded)


def test_where_no_lane_reaches_the_target_the_best_counts(two: WorkerPool) -> None:
    samples, shape = load_digits().pool, architecture("cnn-digits")
    evaluator, device = select("auto")(samples), StraightThroughFounder()
    options = {"target_correct": len(samples), "max_epochs": 1}
    pooled = two.founder(device).found(shape, samples, evaluator, seed=7, **options)
    alone = [device.found(shape, samples, evaluator, seed=7 + lane, **options) for lane in range(LANES)]
    assert encode_model(pooled.model) == encode_model(max(alone, key=lambda each: each.correct).model)


def test_founding_stops_when_told_with_the_best_so_far(two: WorkerPool) -> None:
    samples = load_digits().pool
    evaluator, until = select("auto")(samples), time.monotonic() + 3
    founded = two.founder(StraightThroughFounder()).found(
        architecture("cnn-digits"), samples, evaluator, seed=1, max_epochs=9999,
        should_stop=lambda: time.monotonic() > until,
    )  # fmt: skip
    assert time.monotonic() - until < 20
    assert founded.correct == count_correct(evaluator, founded.model, len(samples))


# A worker that dies.


def worker_pids(pool: WorkerPool) -> list[int]:
    return list(pool._client.run(os.getpid).values())


def test_a_killed_worker_changes_no_result() -> None:
    state, header = closed_block()
    hard = replace(header, target=header.target // 4)
    wanted = draw_winning_ticket(state, hard, make_validator(), never)
    with open_pool("local:2") as pool:
        whole = climb_on(pool)
        for work, expected in ((lambda: climb_on(pool), whole), (lambda: draw_on(pool, state, hard), wanted)):
            victim = worker_pids(pool)[0]
            killed: list[float] = []

            def kill(victim: int = victim, killed: list[float] = killed) -> None:
                os.kill(victim, signal.SIGKILL)
                killed.append(time.monotonic())

            killer = threading.Timer(1.0, kill)
            killer.start()
            assert work() == expected
            assert killed, "the work was over before its worker was killed"
            assert time.monotonic() > killed[0]
            killer.join()
            deadline = time.monotonic() + 60
            while pool.threads < 2:
                assert time.monotonic() < deadline, "the local worker was not started again"
                time.sleep(0.1)


def test_a_node_mines_with_workers_that_dial_it_and_survives_their_deaths(tmp_path: Path) -> None:
    home, certificates = tmp_path / "miner", tmp_path / "certificates"
    bnnchain("init", "--home", str(home))
    bnnchain("pool", "certificates", str(certificates))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tls://127.0.0.1:{free.getsockname()[1]}"
    shown = ("--certificates", str(certificates))
    mining = ("mine", "--founder", "device", "--seed", "1", "--blocks", "6", "--hold", "0.1", "--lanes", "2")
    # They dial before there is a node, as they would after its restart.
    command = [sys.executable, "-m", "bnnchain", "pool", "worker", address, *shown]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        with NodeProcess(*mining, "--pool", address, *shown, home=home) as node:
            node.wait_ready()
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline().startswith("working for tls://")
            node.wait_height(3, timeout_s=180)
            workers[0].kill()
            node.wait_height(6, timeout_s=180)
            assert node.stop() == 0
        workers[1].terminate()
        assert workers[1].wait(30) == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert bnnchain_json("verify", "--home", str(home))["height"] == 6
    said = (tmp_path / "miner.stderr").read_text()
    assert "Traceback" not in said
    assert "mining failed" not in said


# Who gets in.


def test_strangers_are_refused(tmp_path: Path) -> None:
    own, others = tmp_path / "own", tmp_path / "others"
    write_certificates(own)
    write_certificates(others)
    with open_pool("tls://127.0.0.1:0", own) as pool:
        host, port = pool.address.removeprefix("tls://").split(":")

        def greet(directory: Path | None) -> bytes:
            context = ssl.create_default_context(cafile=str(own / CA_FILE))
            context.check_hostname = False
            if directory is not None:
                context.load_cert_chain(directory / CERTIFICATE_FILE, directory / KEY_FILE)
            with socket.create_connection((host, int(port)), 10) as plain, context.wrap_socket(plain) as secure:
                return secure.recv(64)

        assert greet(own), "with a certificate the scheduler answers"
        for stranger in (None, others):
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                greet(stranger)
        with socket.create_connection((host, int(port)), 10) as plain:
            plain.sendall(b"\0" * 64)
            answer = b""
            with suppress(ConnectionResetError):
                answer = plain.recv(64)
            assert answer[:1] in (b"", b"\x15"), "nothing but a TLS alert"
    with pytest.raises(Unavailable, match="--certificates"):
        open_pool("tls://127.0.0.1:0")
    with pytest.raises(Unavailable, match="lacks"):
        open_pool("tls://127.0.0.1:0", tmp_path)
