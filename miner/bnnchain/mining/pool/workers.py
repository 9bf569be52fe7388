"""The pool as its miner sees it: a scheduler in this process, and workers that come and go."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnnchain.exchange.extras import load_extra
from bnnchain.mining.pool.address import LOCAL, MAX_LANES, TCP, PoolAddress
from bnnchain.mining.pool.certificates import read_security
from bnnchain.mining.pool.founding import PooledFounder
from bnnchain.mining.pool.search import PooledSearch
from bnnchain.mining.pool.tasks import SharedSamples, keep
from bnnchain.mining.pool.tickets import PooledTicketDrawer
from bnnchain.wire import tagged_hash
from bnnchain_kernels.errors import BnnchainError, Fault, Invalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

    from bnnchain.chain.validator import Validator
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Header
    from bnnchain.mining.evidence import TicketEvidence
    from bnnchain.mining.evolve import EvolveRequest
    from bnnchain.mining.founders import Founder, ShouldStop
    from bnnchain_kernels.evaluator import Samples

log = logging.getLogger(__name__)

# Dask carries few types.
Future = Any

DEFAULT_LANES = 4
"""Of a pool whose workers come by themselves; a local one has as many as workers."""
POLL_S = 0.05
NO_WORKER_S = 30.0
"""A pool without a worker for so long is said to be unavailable; one that restarts is back before."""
KEPT_SHARED = 8
NO_PAGES = "127.0.0.1:0"
"""Dask cannot do without a web server; this one has no pages and is on loopback."""
SETTINGS = {
    # A data set's pool is one large argument, sent once.
    "distributed.admin.large-graph-warning-threshold": "1GiB",
    # A worker may die for many reasons; what it was at is done again, by however many it takes.
    "distributed.scheduler.allowed-failures": 64,
    "distributed.comm.timeouts.connect": "30s",
    # No web pages: they would be open to everybody who reaches the port.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Where the workers are, and how far work is divided.

    certificates: the directory with this side's; for tls.  lanes: trainings and searches side by side; part of what the
    results depend on, as the number of workers is not; None: as many as a local pool has workers, else
    ``DEFAULT_LANES``.
    """

    address: PoolAddress
    certificates: Path | None = None
    lanes: int | None = None

    def __post_init__(self) -> None:
        if self.lanes is not None and not 1 <= self.lanes <= MAX_LANES:
            raise Invalid("bad-pool", lanes=self.lanes, most=MAX_LANES)


class WorkerPool:
    """A scheduler, its workers and what the miner does with them; a context manager.  Thread-safe."""

    def __init__(self, options: PoolOptions) -> None:
        """Start the scheduler, and the workers of a local pool.

        Raises :class:`Unavailable` without the extra ``pool`` or the certificates, :class:`Fault` where the machine
        cannot listen.
        """
        distributed = load_extra("distributed", "pool")
        address = options.address
        self.lanes = options.lanes or address.worker_count or DEFAULT_LANES
        self._lock = threading.Lock()
        self._shared: OrderedDict[str, Future] = OrderedDict()
        self._keys: OrderedDict[int, tuple[Samples, str]] = OrderedDict()
        load_extra("dask", "pool").config.set(SETTINGS)
        try:
            self._cluster = distributed.LocalCluster(
                n_workers=address.worker_count,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                host=address.host,
                scheduler_port=address.port,
                protocol="tcp://" if address.scheme == TCP else "tls://",
                security=_security(options),
                dashboard_address=NO_PAGES,
                worker_dashboard_address=NO_PAGES,
                silence_logs=logging.CRITICAL,
            )
            self._client = distributed.Client(self._cluster, set_as_default=False)
            # A worker that dies is no error of ours: its work is done again, and nobody wants Dask's traceback of it.
            logging.getLogger("distributed").setLevel(logging.CRITICAL)
        except (OSError, RuntimeError) as error:
            raise Fault(f"the pool cannot start at {address}: {_last_line(error)}") from error
        self._seen_worker = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Return where workers dial."""
        return str(self._cluster.scheduler_address)

    @property
    def threads(self) -> int:
        """Return how many tasks run side by side now."""
        return sum(worker.nthreads for worker in list(self._cluster.scheduler.workers.values()))

    def close(self) -> None:
        """End the local workers and the scheduler; others' workers wait for the next."""
        with contextlib.suppress(TimeoutError, OSError):
            self._client.close()
        with contextlib.suppress(TimeoutError, OSError):
            self._cluster.close()

    def drawer(
        self,
        state: ChainState,
        header: Header,
        validator: Validator,
        should_stop: ShouldStop,
        evidence: TicketEvidence | None,
    ) -> PooledTicketDrawer:
        """Return what draws the tickets of headers like this one on the workers."""
        return PooledTicketDrawer(self, state, header, validator, should_stop, evidence)

    def search(self, request: EvolveRequest, share_percent: int) -> PooledSearch:
        """Return a search whose lanes climb on the workers for a share of the time."""
        return PooledSearch(self, request, share_percent)

    def founder(self, founder: Founder) -> PooledFounder:
        """Return what trains on the workers as ``founder`` would here."""
        return PooledFounder(self, founder.name)

    def submit(self, function: Callable[..., object], *arguments: object, **options: object) -> Future:
        """Return the future of a task; it is cancelled when nobody holds the future any more."""
        # Every task has a key of its own: Dask would take equal ones for one.
        key = f"{function.__name__}-{secrets.token_hex(16)}"
        return self._client.submit(function, *arguments, key=key, pure=False, **options)

    def share(self, key: str, value: object) -> Future:
        """Return the future of a value that many tasks need: sent once a worker, and made again where one is lost."""
        with self._lock:
            if key not in self._shared:
                self._shared[key] = self._client.submit(keep, value, key=f"keep-{key}", pure=False)
                while len(self._shared) > KEPT_SHARED:
                    self._shared.popitem(last=False)
            self._shared.move_to_end(key)
            return self._shared[key]

    def share_samples(self, samples: Samples) -> Future:
        """Return the future of a data set's :class:`SharedSamples`."""
        key = self.key_of(samples)
        return self.share(key, SharedSamples(key, samples))

    def key_of(self, samples: Samples) -> str:
        """Return a name of the samples' content, as hex."""
        with self._lock:
            known = self._keys.get(id(samples))
            if known is None:
                shape = (samples.height, samples.width, samples.planes, samples.classes)
                parts = (repr(shape).encode(), samples.images.tobytes(), samples.labels.tobytes())
                known = self._keys[id(samples)] = samples, tagged_hash("pool-samples", *parts).hex()
                while len(self._keys) > KEPT_SHARED:
                    self._keys.popitem(last=False)
            return known[1]

    def stop_event(self, name: str) -> Any:  # noqa: ANN401
        """Return the event whose setting tells the tasks given its name that nobody waits for them."""
        return load_extra("distributed", "pool").Event(name, client=self._client)

    def result(self, future: Future, should_stop: ShouldStop) -> Any:  # noqa: ANN401
        """Return a task's result, or None where ``should_stop`` came first.

        Raises what the task raised of ours, :class:`Fault` for anything else, :class:`Unavailable` where there is no
        worker for long.
        """
        done = threading.Event()
        future.add_done_callback(lambda _future: done.set())
        while not done.wait(POLL_S):
            if should_stop():
                return None
            self._require_worker()
        try:
            return future.result()
        except BnnchainError:
            raise
        except Exception as error:
            raise Fault(f"a worker of the pool failed: {type(error).__name__}: {_last_line(error)}") from error

    def _require_worker(self) -> None:
        now = time.monotonic()
        if self.threads:
            self._seen_worker = now
        elif now - self._seen_worker > NO_WORKER_S:
            raise Unavailable(f"no worker has joined the pool; start one: bnnchain pool worker {self.address}")


def _security(options: PoolOptions) -> Any:  # noqa: ANN401
    """Return the certificates of a pool: a local one makes its own, in memory, so that no other user gets in."""
    if options.address.scheme == TCP:
        return None
    if options.address.scheme == LOCAL:
        return load_extra("distributed", "pool").Security.temporary()
    return read_security(options.certificates)


def _last_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
