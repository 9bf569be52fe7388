"""Every page shows what the chain holds, and what it does not hold is a page, too."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from builders import Builder, make_spec, open_chain
from web.page import make_page

from bnnchain.bnn.encoding import decode_model, encode_model, model_hash
from bnnchain.consensus.codec import HEADER_BYTES, decode_block, decode_header
from bnnchain.consensus.errors import Fault
from bnnchain.consensus.header import block_id
from bnnchain.consensus.types import BlockKind, DatasetId
from bnnchain.web.pages import MAX_SHOWN_FAMILIES, MAX_TREE_NODES
from bnnchain.web.plots import MAX_LINES

if TYPE_CHECKING:
    from pathlib import Path

    from web.page import Page

HOSTILE = "<script>alert(1)</script>\"'&"


def test_every_page_is_shown(page: Page) -> None:
    for address in page.addresses():
        answer = page.get(address)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"


def test_two_data_sets_have_a_legend(page: Page) -> None:
    assert "swatch" not in page.get("/").text
    index = page.explorer.index
    entries = index.entries()
    other = replace(entries[-1], dataset_id=DatasetId(b"\x07" * 32))
    index._entries.append(other)
    text = page.get("/").text
    assert text.count('class="swatch') == 2
    assert "on " + "07" * 6 in text


def test_head_has_the_headers_alone(page: Page) -> None:
    answer = page.client.head("/blocks")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 1_000


def test_block_shows_every_field_of_its_header(page: Page) -> None:
    head = page.chain.head.head
    block = decode_block(page.chain.store.block(head) or b"")
    text = page.get(f"/blocks/{head.hex()}").text
    header = block.header
    hashes = (header.previous_hash, header.miner, header.body_root, header.params_hash, header.y, header.signature)
    for value in (*hashes, header.dataset_id, header.shape_hash, header.model_hash, header.previous_model_hash):
        assert value.hex() in text
    assert f"{header.target:064x}" in text
    assert block.transactions[0].sender.hex() in text
    assert text == page.get(f"/blocks/{header.height}").text


def test_block_shows_what_the_child_changed(page: Page) -> None:
    child = next(each for each in page.explorer.index.entries() if each.kind == BlockKind.EVOLVE)
    detail = page.explorer.block(child.block_id.hex())
    found = page.explorer.models.read(child.block_id)
    assert found.parent is not None
    flips = sum(each.flips for each in detail.changes)
    assert flips > 0
    assert model_hash(found.model) == found.header.model_hash
    assert "What the child changed" in page.get(f"/blocks/{child.height}").text
    assert "What the child changed" not in page.get("/blocks/1").text


def test_reward_is_what_the_miner_gets(page: Page) -> None:
    params = page.chain.spec.params_at(1)
    assert page.explorer.block("1").reward == params.subsidy
    fees = sum(each.fee for each in decode_block(page.chain.store.block(page.chain.head.head) or b"").transactions)
    assert fees
    assert page.explorer.block(str(page.chain.head.height)).reward == params.subsidy + fees


def test_reward_of_a_matured_block_is_replayed(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db", make_spec(coinbase_maturity_blocks=2))
    Builder(chain).extend(5, kind=BlockKind.IDLE)
    page = make_page(chain)
    assert page.explorer.block("1").reward == chain.spec.params_at(1).idle_subsidy


def test_block_beside_the_chain_says_so(page: Page) -> None:
    chain = page.chain
    parent = chain.state_at(decode_block(chain.store.block(chain.head.head) or b"").header.previous_hash)
    sibling = Builder(parent, seed=9).idle(nonce=7)
    Builder(chain).take(sibling)
    beside = chain.store.children([parent.head], 4)
    assert len(beside) == 1
    identity = page.explorer.find_block(str(chain.head.height))
    assert "not part of the active chain" not in page.get(f"/blocks/{identity.hex()}").text
    other = block_id(decode_header(beside[0][:HEADER_BYTES]))
    assert "not part of the active chain" in page.get(f"/blocks/{other.hex()}").text


def test_blocks_are_paged(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    Builder(chain).extend(60, kind=BlockKind.IDLE)
    page = make_page(chain)
    first = page.get("/blocks").text
    assert '<a href="/blocks/60">' in first
    assert '<a href="/blocks/36">' in first
    assert '<a href="/blocks/35">' not in first
    assert "/blocks?top=35" in first
    last = page.get("/blocks?top=10").text
    assert '<a href="/blocks/1">' in last
    assert "/blocks?top=35" in last
    assert page.get("/blocks?top=99999999").text == first
    assert page.get("/blocks?top=-1").text == first


def test_pruned_chain_shows_what_it_has(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    builder = Builder(chain)
    builder.extend(4)
    builder.extend(3, kind=BlockKind.IDLE)
    page = make_page(chain)
    chain.store.prune(5)
    assert "pruned" in page.get("/blocks").text
    assert [entry.height for entry in page.explorer.index.entries()] == [1, 2, 3, 4]
    assert "was pruned here" in page.get("/blocks/2", 404).text
    best = chain.head.families[0].best.block_id
    assert "pruned" in page.get(f"/models/{best.hex()}").text
    assert page.get(f"/models/{best.hex()}/model.bnn").content == encode_model(chain.head.families[0].best.model)
    assert page.get("/draw?sample=0").status_code == 200
    for address in ("/", "/families", "/families/0", "/blocks/6"):
        page.get(address)


def test_page_of_many_long_families_is_bounded(page: Page) -> None:
    index = page.explorer.index
    founder, *_, child = index.entries()
    many = [
        replace(each, family_id=number, generation=generation)
        for number in range(300)
        for generation, each in enumerate([founder, *[child] * 150])
    ]
    index._entries[:] = many
    text = page.get("/families").text
    assert text.count('class="hit"') <= MAX_TREE_NODES + MAX_LINES
    assert text.count("<tr>") <= MAX_SHOWN_FAMILIES + 1
    assert 'href="/families/299"' in text
    assert text.count('class="swatch') == MAX_LINES
    assert len(text) < 4_000_000


def test_peers_are_shown_by_what_they_claim(page: Page) -> None:
    text = page.get("/peers").text
    assert "192.0.2.7:9555" in text
    assert "&lt;script&gt;alert(2)&lt;/script&gt;" in text
    assert "<script>alert" not in text


def test_empty_chain_has_pages(tmp_path: Path) -> None:
    page = make_page(open_chain(tmp_path / "chain.db"))
    for address in ("/", "/blocks", "/families", "/datasets", "/peers"):
        page.get(address)
    assert "carries no model yet" in page.get("/draw", 404).text


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/nothing", 404, "Not found"),
        ("/blocks/0", 404, "the chain has no block 0"),
        ("/blocks/99", 404, "the chain has no block 99"),
        ("/blocks/" + "9" * 70, 400, "bad-id"),
        ("/blocks/xyz", 400, "bad-id"),
        ("/blocks/" + "00" * 32, 404, "no block 0000"),
        ("/blocks/%E2%91%A0", 400, "bad-id"),
        ("/families/7", 404, "the chain has no family 7"),
        ("/families/-1", 404, "the chain has no family"),
        ("/families/" + "9" * 500, 404, "the chain has no family"),
        ("/datasets/" + "00" * 32, 404, "the chain has no data set"),
        ("/datasets/zz", 400, "bad-id"),
        ("/models/" + "00" * 32, 404, "not in this node"),
        ("/models/1", 400, "bad-id"),
        ("/draw?sample=99999", 404, "samples, numbered from 0"),
        ("/static/secret", 404, "no such file"),
        ("/static/..%2f..%2fsite.py", 404, "Not found"),
    ],
)
def test_what_is_not_there_is_a_page(page: Page, path: str, status: int, text: str) -> None:
    answer = page.get(path, status)
    assert text in answer.text
    assert "<h1>" in answer.text
    assert "content-security-policy" in answer.headers


def test_idle_block_has_no_model(page: Page) -> None:
    identity = page.explorer.find_block("6")
    assert "carries no model" in page.get(f"/models/{identity.hex()}", 404).text


def test_fault_is_a_page_that_tells_nothing(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise Fault("secret path")

    monkeypatch.setattr(page.explorer.chain.store, "active_headers", fail)
    answer = page.get("/", 500)
    assert "secret path" not in answer.text
    assert "content-security-policy" in answer.headers


def test_bug_is_a_page_that_tells_nothing(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError("secret figure")

    monkeypatch.setattr(page.explorer.chain.store, "active_headers", fail)
    answer = page.get("/", 500)
    assert "secret figure" not in answer.text
    assert "content-security-policy" in answer.headers


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db", make_spec(name=HOSTILE))
    Builder(chain).extend(4)
    page = make_page(chain)
    for address in [*page.addresses(), "/nothing", "/blocks/<script>alert(1)</script>"]:
        text = page.client.get(address).text
        assert "<script>alert" not in text
        if address != "/now":
            assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;" in text


def test_hostile_manifest_is_escaped(page: Page) -> None:
    head = page.chain.head
    dataset_id, entry = next(iter(head.datasets.items()))
    manifest = copy(entry.manifest)
    for field in ("name", "origin", "licence"):  # no manifest that keeps the rules says such things
        object.__setattr__(manifest, field, HOSTILE)
    page.chain._head = replace(head, datasets={dataset_id: replace(entry, manifest=manifest)})
    for address in page.addresses():
        assert "<script>alert" not in page.client.get(address).text
    assert page.get(f"/datasets/{dataset_id.hex()}").text.count("&lt;script&gt;alert") >= 3


def test_files_are_the_model(page: Page) -> None:
    identity = page.model_ids()[-1]
    found = page.explorer.models.read(identity)
    answer = page.get(f"/models/{identity.hex()}/model.bnn")
    assert model_hash(decode_model(answer.content)) == found.header.model_hash
    name = answer.headers["content-disposition"]
    assert name.startswith('attachment; filename="family-0-generation-')
    papers = json.loads(page.get(f"/models/{identity.hex()}/model.bnn.json").content)
    assert papers["block_id"] == identity.hex()
    assert papers["correct"] == found.header.correct_new
    assert "comes as model.onnx" in page.get(f"/models/{identity.hex()}/model.exe", 404).text


def test_onnx_file_is_onnx(page: Page) -> None:
    onnx = pytest.importorskip("onnx")
    data = page.get(f"/models/{page.model_ids()[0].hex()}/model.onnx").content
    onnx.checker.check_model(onnx.load_model_from_string(data))


def test_models_stay_while_their_parents_change(page: Page) -> None:
    for identity in page.model_ids():
        header = decode_block(page.chain.store.block(identity) or b"").header
        assert model_hash(page.explorer.models.read(identity).model) == header.model_hash
