"""Accounts, pots and data sets' lives: PROTOCOL.md, sections 8 and 9."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oracle.reading import need

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 1 << 62


def book(
    state: dict[str, Any],
    transactions: list[dict[str, Any]],
    params: dict[str, Any],
    is_signed: Callable[[bytes, bytes, bytes], bool],
) -> dict[str, Any]:
    """The state's money after the transactions: accounts, datasets, coinbases, fees, burned."""
    books = {
        "accounts": dict(state["accounts"]), "datasets": {key: dict(entry) for key, entry in state["datasets"].items()},
        "coinbases": list(state["coinbases"]), "fees": 0, "burned": 0,
    }  # fmt: skip
    for order in transactions:
        need(order["version"] == 1 and order["chain_id"] == state["spec"]["chain_id"], "transaction's chain")
        need(is_signed(order["sender"], order["message"], order["signature"]), "transaction's signature")
        need(order["fee"] <= MOST and order["expiry"] > state["height"], "fee or expiry")
        coins, nonce = books["accounts"].get(order["sender"], (0, 0))
        need(order["nonce"] == nonce, "nonce")
        cost = order["fee"]
        if order["kind"] == 1:
            need(0 < order["amount"] <= MOST, "amount")
            cost += order["amount"]
        elif order["kind"] == 2:
            cost += upload(books, order, state["height"] + 1, params)
        elif order["kind"] == 3:
            need(0 < order["amount"] <= MOST, "amount")
            entry = books["datasets"].get(order["id"])
            need(entry and entry["status"] != "closed", "no such data set")
            entry["pot"] += order["amount"]
            cost += order["amount"]
        need(cost <= coins, "balance")
        if order["kind"] == 4:
            report(state, books, order, params, is_signed)
        coins, _ = books["accounts"].get(order["sender"], (0, 0))
        books["accounts"][order["sender"]] = (coins - cost, nonce + 1)
        if order["kind"] == 1:
            give(books, order["recipient"], order["amount"])
        books["fees"] += order["fee"]
    return books


def give(books: dict[str, Any], key: bytes, amount: int) -> None:
    coins, nonce = books["accounts"].get(key, (0, 0))
    books["accounts"][key] = (coins + amount, nonce)


def upload(books: dict[str, Any], order: dict[str, Any], height: int, params: dict[str, Any]) -> int:
    """What it costs beside the fee."""
    manifest, datasets = order["manifest"], books["datasets"]
    need(order["bounty"] <= MOST and order["least_bp"] <= 10_000, "terms")
    need(manifest["pool"] >= params["min_pool"] and manifest["id"] not in datasets, "pool")
    waiting = [entry for entry in datasets.values() if entry["status"] in ("pending", "suspended")]
    need(len(waiting) < params["max_pending"], "full")
    fee = (manifest["bytes"] + 1_023) // 1_024 * params["fee_per_kib"]
    datasets[manifest["id"]] = {
        "manifest": manifest, "uploader": order["sender"], "least_bp": order["least_bp"], "status": "pending",
        "added": height, "since": height, "window": [], "below": 0, "deposit": params["deposit"],
        "pot": order["bounty"], "own_pot": order["bounty"], "unfilled": 0, "record": 0,
    }  # fmt: skip
    books["burned"] += fee
    return fee + params["deposit"] + order["bounty"]


def report(
    state: dict[str, Any], books: dict[str, Any], order: dict[str, Any], params: dict[str, Any],
    is_signed: Callable[[bytes, bytes, bytes], bool],
) -> None:  # fmt: skip
    first, second = order["headers"]
    for name in ("miner", "previous_hash", "chain_id"):
        need(first[name] == second[name], "two different cases")
    need(first["chain_id"] == state["spec"]["chain_id"] and first["id"] < second["id"], "evidence")
    need(all(is_signed(each["miner"], each["id"], each["signature"]) for each in (first, second)), "forged evidence")
    lost = [each for each in books["coinbases"] if each["block"] in (first["id"], second["id"])]
    need(lost, "no reward waits")
    books["coinbases"].remove(lost[0])
    share = lost[0]["amount"] * params["reporter_bp"] // 10_000
    give(books, order["sender"], share)
    books["burned"] += lost[0]["amount"] - share


def reward(
    state: dict[str, Any],
    block: dict[str, Any],
    parent_miner: bytes | None,
    books: dict[str, Any],
    params: dict[str, Any],
) -> int:
    """Add what the block earns to the coinbases; return the new money in it."""
    header = block["header"]
    is_own = header["kind"] != 3 and state["datasets"][header["dataset_id"]]["uploader"] is None
    minted = params["subsidy"] if is_own else params["idle_subsidy"]
    if block["stale"]:
        minted += params["subsidy"] // params["stale_divisor"]
    earned, ripe = minted + books["fees"], header["height"] + params["maturity"]
    if header["kind"] != 3:
        entry, correct = books["datasets"][header["dataset_id"]], header["correct_new"]
        if entry["record"] and correct > entry["record"]:
            paid = entry["pot"] * (correct - entry["record"]) // (entry["manifest"]["pool"] - entry["record"])
            own, parents = (paid * params[name] // 10_000 for name in ("miner_bp", "parent_bp"))
            fire = paid - own - parents
            entry["pot"] -= own + fire + (parents if parent_miner else 0)
            books["burned"] += fire
            earned += own
            if parent_miner and parents:
                books["coinbases"].append({"height": ripe, "owner": parent_miner, "amount": parents, "block": None})
        entry["record"] = max(entry["record"], correct)
    books["coinbases"].append({"height": ripe, "owner": header["miner"], "amount": earned, "block": header["id"]})
    return minted


def age(books: dict[str, Any], proven: set[bytes], unfilled: set[bytes], height: int, params: dict[str, Any]) -> None:
    for identity, entry in books["datasets"].items():
        if entry["status"] == "active":
            entry["unfilled"] = entry["unfilled"] + 1 if identity in unfilled else 0
        if entry["uploader"] is None or entry["status"] == "closed" or entry["added"] == height:
            continue
        entry["window"] = [identity in proven, *entry["window"]][: params["window"]]
        is_available = sum(entry["window"]) >= params["least"]
        entry["below"] = 0 if is_available else entry["below"] + 1
        waited, before = height - entry["since"], entry["status"]
        if before == "active":
            is_over = (params["life"] and waited >= params["life"]) or entry["unfilled"] >= params["suspended"]
            now = "closed" if is_over else "suspended" if entry["below"] >= params["suspend"] else before
        else:
            active = [each for each in books["datasets"].values() if each["uploader"] and each["status"] == "active"]
            limit = params["pending"] if before == "pending" else params["suspended"]
            has_room = len(active) < params["max_active"]
            now = "active" if is_available and has_room else "closed" if waited >= limit else before
        if now != before:
            entry |= {"status": now, "since": height, "below": 0}
        if now == "closed":
            serves = entry["record"] > 0 if before == "active" else is_available
            back = min(entry["pot"], entry["own_pot"]) + (entry["deposit"] if serves else 0)
            books["burned"] += entry["pot"] + entry["deposit"] - back
            give(books, entry["uploader"], back)
            entry |= {"pot": 0, "deposit": 0}
