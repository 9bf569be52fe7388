"""What every answer carries, and who gets none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.responses import Response
from starlette.testclient import TestClient
from web.page import ORIGIN

from bnnchain.web.guard import (
    BURST,
    MAX_CLIENTS,
    MAX_REQUESTS_UNDER_WAY,
    MAX_TARGET_BYTES,
    RATE_PER_S,
    Buckets,
    Guard,
    is_own_name,
)

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send
    from web.page import Page

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}


@pytest.mark.parametrize("path", ["/", "/nothing", "/static/style.css", "/blocks/zz"])
def test_every_answer_is_strict(page: Page, path: str) -> None:
    headers = page.client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


def test_pages_hold_nothing_that_the_policy_forbids(page: Page) -> None:
    for address in page.addresses():
        text = page.get(address).text
        for forbidden in ("<style", " style=", "javascript:", " onclick", " onload", "<form", "<iframe", "<base"):
            assert forbidden not in text, (address, forbidden)
        assert text.count("<script") == text.count('<script src="/static/')


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(page: Page, method: str) -> None:
    for address in [*page.addresses(), "/events", "/static/style.css"]:
        assert page.client.request(method, address, headers={"origin": ORIGIN}).status_code == 405


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("localhost", True),
        ("LOCALHOST:8555", True),
        ("127.0.0.1:8555", True),
        ("[::1]:8555", True),
        ("192.168.1.7", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:8555", False),
        ("", False),
        (":8555", False),
        ("localhost:80:80", False),
        ("127.0.0.1@evil.example", False),
    ],
)
def test_host_is_this_machine(host: str, is_own: bool) -> None:
    assert is_own_name(host, frozenset({"localhost"})) == is_own


def test_rebound_name_is_refused(page: Page) -> None:
    answer = page.get("/", 421, host="evil.example:8555")
    assert "regtest" not in answer.text
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_here_and_no_more(page: Page, site: str) -> None:
    page.get("/blocks", 200, **{"sec-fetch-site": site, "sec-fetch-mode": "navigate"})
    for mode in ("no-cors", "cors", "websocket"):
        page.get("/blocks", 403, **{"sec-fetch-site": site, "sec-fetch-mode": mode})
        page.get("/events", 403, **{"sec-fetch-site": site, "sec-fetch-mode": mode})
    page.get("/blocks", 200, **{"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"})


def test_long_address_is_refused(page: Page) -> None:
    page.get("/blocks?top=" + "1" * MAX_TARGET_BYTES, 414)


def test_rate_is_bounded() -> None:
    now = [0.0]
    buckets = Buckets(2.0, 4, lambda: now[0])
    assert [buckets.take("a") for _ in range(5)] == [True] * 4 + [False]
    assert buckets.take("b")
    now[0] = 1.0
    assert [buckets.take("a") for _ in range(3)] == [True, True, False]
    now[0] = 1_000.0
    assert sum(buckets.take("a") for _ in range(10)) == 4
    for number in range(2 * MAX_CLIENTS):
        buckets.take(str(number))
    assert len(buckets._levels) == MAX_CLIENTS


def test_too_many_requests_are_refused() -> None:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("here")(scope, receive, send)

    client = TestClient(Guard(answer, Buckets(RATE_PER_S, BURST, lambda: 0.0)), base_url=ORIGIN)
    statuses = [client.get("/static/icon.svg").status_code for _ in range(BURST + 10)]
    assert statuses == [200] * BURST + [429] * 10


def test_requests_under_way_are_bounded() -> None:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the application was asked")

    guard = Guard(answer)
    guard._under_way = MAX_REQUESTS_UNDER_WAY
    assert TestClient(guard, base_url=ORIGIN).get("/").status_code == 503


def test_assets_are_kept_for_ever(page: Page) -> None:
    text = page.get("/").text
    start = text.index("/static/style.css?")
    answer = page.get(text[start : text.index('"', start)])
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    again = page.client.get("/static/style.css", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert page.get("/static/style.css").headers["cache-control"] == "no-cache"


def test_pages_are_compressed(page: Page) -> None:
    assert page.get("/blocks", **{"accept-encoding": "gzip"}).headers["content-encoding"] == "gzip"
