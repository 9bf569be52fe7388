"""The page around a chain, asked as a browser would ask it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.testclient import TestClient

from bnnchain.chain.mempool import Mempool
from bnnchain.consensus.types import BlockId, Height
from bnnchain.net.messages import NODE_ID_BYTES, PROTOCOL_VERSION, Agreement, Head, Hello, Role
from bnnchain.net.peers import DialledPeer
from bnnchain.web.explorer import Explorer
from bnnchain.web.guard import Guard
from bnnchain.web.live import Live
from bnnchain.web.site import make_site
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from httpx import Response

    from bnnchain.chain.chain import Chain

ORIGIN = "http://localhost"


HEAD = Head(BlockId(bytes(32)), Height(7), 7)
HOSTILE_PEER = DialledPeer(
    "192.0.2.7:9555",
    Hello(PROTOCOL_VERSION, 1, HEAD.block_id, HEAD, bytes(NODE_ID_BYTES), Role.MINER, "<script>alert(2)</script>"),
    HEAD,
)


@dataclass(frozen=True, slots=True)
class Around:
    """A network with one peer that calls itself names, and one guest."""

    address: str = "127.0.0.1:9555"
    peer_count: int = 2
    dialled: list[DialledPeer] = field(default_factory=lambda: [HOSTILE_PEER])
    guests: set[bytes] = field(default_factory=lambda: {bytes(NODE_ID_BYTES)})
    is_syncing: bool = False
    agreement: Agreement = field(default_factory=lambda: Agreement(None, 0, 0))


@dataclass(frozen=True, slots=True)
class Page:
    """The application with what is behind it."""

    explorer: Explorer
    live: Live
    guard: Guard
    client: TestClient

    @property
    def chain(self) -> Chain:
        return self.explorer.chain

    def get(self, path: str, status: int = 200, **headers: str) -> Response:
        answer = self.client.get(path, headers=headers)
        assert answer.status_code == status, (path, answer.status_code, answer.text)
        return answer

    def draw(self, block_id: BlockId, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        return self.client.post(
            f"/classify/{block_id.hex()}", content=body, headers=headers if headers is not None else {"origin": ORIGIN}
        )

    def model_ids(self) -> list[BlockId]:
        return [entry.block_id for entry in self.explorer.index.entries()]

    def addresses(self) -> list[str]:
        """Return one address of every kind of page."""
        model = self.model_ids()[-1].hex()
        dataset = next(iter(self.chain.head.datasets)).hex()
        return [
            *("/", "/now", "/blocks", "/blocks?top=3", "/blocks/1", f"/blocks/{self.chain.head.head.hex()}"),
            *("/families", "/families/0", "/datasets", f"/datasets/{dataset}", f"/datasets/{dataset}?start=60"),
            *(f"/models/{model}", "/draw", f"/draw/{model}", f"/draw/{model}?sample=1", "/peers"),
        ]


def make_page(chain: Chain) -> Page:
    live = Live()
    explorer = Explorer(chain, Mempool(chain), Around(), ReferenceEvaluator, "validator-only")
    guard = make_site(explorer, live)
    assert isinstance(guard, Guard)
    return Page(explorer, live, guard, TestClient(guard, base_url=ORIGIN, raise_server_exceptions=False))
