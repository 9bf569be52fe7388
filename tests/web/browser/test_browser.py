"""The page as people meet it: new blocks, drawing, files, phones, keyboards, screen readers."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from playwright.sync_api import expect
from web.browser.conftest import BLOCKS, BUILD

from bnnchain.bnn.encoding import decode_model
from bnnchain.datasets.digits import load_digits
from bnnchain.web.drawing import DRAWING_SIDE, sample_of
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page
    from web.browser.conftest import Nodes, Visit

    from bnnchain_kernels.model import Model

MAX_LOAD_MS = 1_000
LOADS = 5
DESK = {"width": 1200, "height": 800}
PHONE = {"width": 360, "height": 740}
LEAST_TARGET = 24
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
NOTHING = "\u2013"
"""Shown where no class is."""
MAX_DOCUMENT_BYTES = 150_000
KINDS = (
    *("overview", "blocks", "block", "founder", "families", "family", "datasets", "dataset"),
    *("model", "draw", "sample", "peers", "missing"),
)


def address_of(kind: str, page: Page, url: str) -> str:
    """Return the address of a kind of page, found by its links as a visitor would find it."""
    fixed = {
        "overview": "/",
        "blocks": "/blocks",
        "block": f"/blocks/{BLOCKS}",
        "founder": "/blocks/1",
        "families": "/families",
        "family": "/families/0",
        "datasets": "/datasets",
        "draw": "/draw",
        "sample": "/draw?sample=17",
        "peers": "/peers",
        "missing": "/blocks/999999",
    }
    if kind in fixed:
        return fixed[kind]
    start, selector = {
        "dataset": ("/datasets", "td a[href^='/datasets/']"),
        "model": ("/families/0", "td a[href^='/models/']"),
    }[kind]
    page.goto(url + start)
    address = page.locator(selector).first.get_attribute("href")
    assert address
    return address


def scores_of(page: Page) -> list[int]:
    return [int(text) for text in page.locator("#scores .number").all_text_contents()]


def model_of(page: Page, url: str) -> Model:
    """Return the model that the drawing page asks, by the file that its own page hands out."""
    address = page.locator(".lead a").get_attribute("href")
    answer = page.request.get(f"{url}{address}/model.bnn")
    assert answer.ok
    return decode_model(answer.body())


def test_new_blocks_appear(nodes: Nodes, visit: Visit) -> None:
    page = visit.open("/")
    expect(page.locator("[data-live=state]")).to_have_text("live")
    before = int(page.locator("[data-live=height]").text_content() or "")
    assert before < BLOCKS
    nodes.validator.wait_height(BLOCKS)
    expect(page.locator("[data-live=height]")).to_have_text(str(BLOCKS))
    expect(page.locator("[data-live=now] dd").first).to_have_text(str(BLOCKS))
    expect(page.locator(f"a[href='/blocks/{BLOCKS}']").first).to_be_visible()
    expect(page.locator("[role=status]")).to_have_text(f"Block {BLOCKS} has come.")
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1, "it was loaded again"


def test_the_other_node_is_a_peer(grown: Nodes, visit: Visit) -> None:
    page = visit.open("/peers")
    assert page.locator(".tiles dd").first.text_content() == "1"
    assert grown.miner.pid != grown.validator.pid


@pytest.mark.parametrize(("scheme", "size"), [("light", DESK), ("dark", PHONE)])
@pytest.mark.parametrize("kind", KINDS)
def test_page_is_accessible(grown: Nodes, browser: Browser, scheme: Any, size: Any, kind: str) -> None:
    """No violation at all, of serious ones or others, and nothing wider than the screen."""
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    page.goto(grown.url + address_of(kind, page, grown.url))
    found = Axe().run(page, options={"runOnly": RULES}).response
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
    assert {"color-contrast", "landmark-one-main", "html-has-lang"} <= {each["id"] for each in found["passes"]}
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    page.screenshot(path=BUILD / "screenshots" / f"{kind}-{scheme}-{size['width']}.png", full_page=True)
    context.close()


def test_what_is_not_accessible_is_found(grown: Nodes, context: BrowserContext) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = context.new_page()
    page.goto(f"{grown.url}/peers")
    page.evaluate("document.querySelector('h1').style.color = 'rgb(230, 230, 230)'")
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    assert {"color-contrast", "button-name"} <= {each["id"] for each in found}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "missing"])
def test_page_loads_within_a_second(grown: Nodes, browser: Browser, kind: str) -> None:
    """From nothing: every load is another visitor's, with an empty cache."""
    loads = []
    context = browser.new_context()
    address = address_of(kind, context.new_page(), grown.url)
    context.close()
    for _ in range(LOADS):
        context = browser.new_context(viewport=DESK)
        page = context.new_page()
        page.goto(grown.url + address, wait_until="load")
        loads.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
        context.close()
    with (BUILD / "loads.txt").open("a") as file:
        file.write(f"{kind}: median {median(loads):.0f} ms of {[round(each) for each in loads]}\n")
    assert 0 < median(loads) < MAX_LOAD_MS


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_large_enough_for_a_finger(grown: Nodes, context: BrowserContext, kind: str) -> None:
    """Links within sentences are excepted, as in WCAG 2.2, 2.5.8."""
    page = context.new_page()
    page.set_viewport_size(PHONE)
    page.goto(grown.url + address_of(kind, page, grown.url))
    small = page.evaluate(
        """(least) => [...document.querySelectorAll("a, button, summary, canvas")]
        .filter((each) => !each.closest("p, dd") || each.matches(".button, .more"))
        .filter((each) => !each.matches(".skip"))
        .map((each) => [each.outerHTML.slice(0, 80), each.getBoundingClientRect()])
        .filter(([, box]) => box.width < least || box.height < least)
        .map(([text, box]) => `${text} ${box.width}x${box.height}`)""",
        LEAST_TARGET,
    )
    assert small == []


def test_drawing_is_classified_by_the_kernel(grown: Nodes, visit: Visit) -> None:
    page = visit.open("/draw")
    box = page.locator("canvas").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.15)
    page.mouse.down()
    for step in range(1, 15):
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * (0.15 + 0.05 * step))
    page.mouse.up()
    expect(page.locator("#source")).to_contain_text("your drawing")
    page.wait_for_timeout(600)  # the answer to the whole stroke
    ink = page.evaluate(
        """() => { const canvas = document.getElementById("canvas");
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return [...pixels].filter((_, index) => index % 4 === 3); }"""
    )
    drawing = np.array(ink, np.uint8).reshape(DRAWING_SIDE, DRAWING_SIDE)
    samples = sample_of(drawing, load_digits().manifest)
    wanted = ReferenceEvaluator(samples).logits(model_of(page, grown.url), 0, 1)[0].tolist()
    assert scores_of(page) == wanted
    assert page.locator("#label").text_content() == str(int(np.argmax(wanted)))
    assert re.search(r"kernel (c|numba|reference)$", page.locator("#source").text_content() or "")
    assert page.locator("#seen").is_visible()
    page.locator("#clear").click()
    assert page.locator("#label").text_content() == NOTHING
    assert set(scores_of(page)) == {0}
    assert not page.locator("#seen").is_visible()


def test_keys_draw_as_well(grown: Nodes, visit: Visit) -> None:
    page = visit.open("/draw")
    page.locator("canvas").focus()
    for _ in range(8):
        page.keyboard.press("ArrowUp")
    assert page.locator("#label").text_content() == NOTHING, "a lifted pen draws nothing"
    page.keyboard.press("Space")
    for _ in range(16):
        page.keyboard.press("ArrowDown")
    expect(page.locator("#label")).not_to_have_text(NOTHING)
    assert "Pen down" in (page.locator("#keys").text_content() or "")
    page.keyboard.press("Delete")
    expect(page.locator("#label")).to_have_text(NOTHING)


def test_sample_is_chosen_by_keyboard(grown: Nodes, visit: Visit) -> None:
    page = visit.open("/draw")
    page.locator(".samples a").nth(3).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/draw/*?sample=*")
    index = int(page.url.rpartition("=")[2])
    pool = load_digits().pool
    wanted = ReferenceEvaluator(pool).logits(model_of(page, grown.url), index, index + 1)[0].tolist()
    assert scores_of(page) == wanted
    assert page.locator("#label").text_content() == str(int(np.argmax(wanted)))
    assert page.locator("canvas").is_visible()


def test_everything_is_reached_by_tab(grown: Nodes, visit: Visit) -> None:
    page = visit.open("/draw")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    seen = set()
    for _ in range(40):
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        page.keyboard.press("Tab")
    assert {"canvas", "clear", "A"} <= seen


def test_onnx_file_says_what_the_chain_says(grown: Nodes, visit: Visit) -> None:
    runtime = pytest.importorskip("onnxruntime")
    page = visit.open("/families/0")
    page.locator("td a[href^='/models/']").first.click()
    with page.expect_download() as waiting:
        page.get_by_role("link", name="ONNX").click()
    file = Path(waiting.value.path())
    with page.expect_download() as waiting:
        page.get_by_role("link", name=".bnn").click()
    model = decode_model(Path(waiting.value.path()).read_bytes())
    digits = load_digits()
    greys = np.array([0, *digits.manifest.thresholds], np.uint8)[digits.heldout.unpack(0, 500).sum(axis=-1)]
    labels, scores = runtime.InferenceSession(str(file)).run(["labels", "scores"], {"images": greys})
    wanted = ReferenceEvaluator(digits.heldout).logits(model, 0, 500)
    assert np.array_equal(scores, wanted)
    assert np.array_equal(labels, wanted.argmax(axis=1))


def test_no_script_no_loss(grown: Nodes, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{grown.url}/")
    assert page.locator("table.blocks tbody tr").count() == 8
    page.goto(f"{grown.url}/draw?sample=5")
    assert page.locator("#label").text_content() in {str(label) for label in range(10)}
    context.close()


def test_motion_is_left_out_where_asked(grown: Nodes, browser: Browser) -> None:
    durations = {}
    for motion in ("reduce", "no-preference"):
        context = browser.new_context(reduced_motion=motion)
        page = context.new_page()
        page.goto(f"{grown.url}/draw")
        durations[motion] = page.evaluate("getComputedStyle(document.querySelector('.scores rect')).transitionDuration")
        context.close()
    assert durations == {"reduce": "0s", "no-preference": "0.15s"}


def test_injected_script_does_not_run(grown: Nodes, context: BrowserContext) -> None:
    """The policy holds even where escaping would not."""
    page = context.new_page()
    page.goto(f"{grown.url}/")
    page.evaluate(
        """() => { const script = document.createElement("script"); script.textContent = "window.injected = 1";
        document.body.append(script); document.body.insertAdjacentHTML("beforeend",
        '<img src="x" onerror="window.injected = 2"><p id="styled" style="color: red">'); }"""
    )
    page.wait_for_timeout(300)
    assert page.evaluate("window.injected") is None
    assert page.evaluate("getComputedStyle(document.getElementById('styled')).color") != "rgb(255, 0, 0)"


def test_other_origin_cannot_read_or_ask(grown: Nodes, context: BrowserContext) -> None:
    """A page of another port of this machine: its requests are answered without leave to read, and drawings refused."""
    page = context.new_page()
    page.goto("about:blank")
    answers = page.evaluate(
        """async (url) => { const ask = async (path, options) => {
        try { return (await fetch(url + path, options)).status; } catch { return "refused"; } };
        return [await ask("/", {}), await ask("/classify/00", { method: "POST", body: "x" })]; }""",
        grown.url,
    )
    assert answers == ["refused", "refused"]


@pytest.mark.parametrize(
    ("name", "address", "size"),
    [
        ("explorer-overview", "/", (1040, 1200)),
        ("explorer-families", "/families", (1040, 760)),
        ("explorer-draw", "/draw", (1040, 760)),
    ],
)
def test_pictures_for_the_documents(
    grown: Nodes, browser: Browser, name: str, address: str, size: tuple[int, int]
) -> None:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    page = context.new_page()
    page.goto(grown.url + address)
    if address == "/draw":
        draw_two(page)
    page.wait_for_timeout(300)
    documents = BUILD / "documents"
    page.screenshot(path=documents / f"{name}.png")
    context.close()
    assert (documents / f"{name}.png").stat().st_size < MAX_DOCUMENT_BYTES


def draw_two(page: Page) -> None:
    box = page.locator("canvas").bounding_box()
    assert box
    points = [(0.32, 0.32), (0.36, 0.2), (0.5, 0.15), (0.64, 0.2), (0.67, 0.33), (0.6, 0.47), (0.45, 0.62)]
    points += [(0.33, 0.8), (0.31, 0.84), (0.5, 0.84), (0.7, 0.84)]
    for number, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=4)
        if number == 0:
            page.mouse.down()
    page.mouse.up()
    expect(page.locator("#source")).to_contain_text("your drawing")
    page.wait_for_timeout(600)
