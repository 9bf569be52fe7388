"""The rules: PROTOCOL.md, sections 4 to 9.  A state is a dict of plain values that no later block changes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import curve

from oracle import reading
from oracle.counting import below, distinct, label, stream, ticket
from oracle.money import age, book, reward
from oracle.reading import ZERO, need, tagged

if TYPE_CHECKING:
    from collections.abc import Mapping

    State = dict[str, Any]
    Pools = Mapping[bytes, tuple[list[int], list[int]]]
    """By data set: images as integers, labels."""

FOUND, EVOLVE, IDLE = 1, 2, 3
HIGHEST = (1 << 256) - 1


def ceil_share(count: int, share_bp: int) -> int:
    return (count * share_bp + 9_999) // 10_000


@lru_cache(maxsize=4_096)
def is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """RFC 8032 without the cofactor; S below L, A and R canonical and of large order."""
    points = [curve.decode(data) for data in (key, signature[:32])]
    canonical = all(int.from_bytes(data, "little") & (1 << 255) - 1 < curve.P for data in (key, signature[:32]))
    if not canonical or None in points or int.from_bytes(signature[32:], "little") >= curve.L:
        return False
    if any(curve.times(8, point) == curve.NEUTRAL for point in points if point is not None):
        return False
    return curve.holds_without_cofactor(key, signature, message)


def genesis(spec_bytes: bytes) -> State:
    spec = reading.spec_of(spec_bytes)
    own = {
        "manifest": spec["manifest"], "uploader": None, "least_bp": None, "status": "active", "added": 0, "since": 0,
        "window": [], "below": 0, "deposit": 0, "pot": 0, "own_pot": 0, "unfilled": 0, "record": 0,
    }  # fmt: skip
    return {
        "spec": spec, "head": spec["genesis"], "height": 0, "time": spec["time"], "weight": 0,
        "datasets": {spec["manifest"]["id"]: own}, "families": [], "coinbases": [], "ancestors": [], "included": [],
        "accounts": {key: (coins, 0) for key, coins in spec["coins"].items() if coins},
        "supply": sum(spec["coins"].values()),
    }  # fmt: skip


def params_for(state: State) -> dict[str, Any]:
    """The parameters of the block after ``state``."""
    return [params for height, params in state["spec"]["schedule"] if height <= state["height"] + 1][-1]


def judge(state: State, raw: bytes, now: int, pools: Pools) -> State:
    block, params = reading.block_of(raw), params_for(state)
    header = block["header"]
    place = check_header(state, header, params, now)
    check_ticket(state, header, params, pools)
    need(block["size"] <= params["max_bytes"], "block size")
    need(len(block["transactions"]) <= params["max_count"], "transactions")
    need(block["transaction_bytes"] <= params["max_transaction_bytes"], "transaction bytes")
    need(block["root"] == header["body_root"], "body root")
    check_proofs(state, header, block["proofs"])
    if block["stale"] is not None:
        check_stale(state, block["stale"], header["timestamp"], params, pools)
    model = check_model(state, header, place, block["model"], params, pools)
    books = book(state, block["transactions"], params, is_signed)
    return after(state, block, place, model, books, params)


def target_after(state: State, params: dict[str, Any]) -> int:
    if params["open_lottery"]:
        return HIGHEST
    interval, spec = params["interval"], state["spec"]
    exponent = (state["time"] - spec["time"] - interval * state["height"]) * 65_536 // (10 * interval)
    whole, part = divmod(exponent, 65_536)
    factor = 65_536 + (195_766_423_245_049 * part + 971_821_376 * part**2 + 5_127 * part**3 + 2**47) // 2**48
    if whole > 272:
        return HIGHEST
    target = spec["target"] * factor * 2 ** max(0, whole) // 2 ** max(0, -whole) // 65_536
    return max(1, min(HIGHEST, target))


def is_open(state: State, family: dict[str, Any], params: dict[str, Any]) -> bool:
    if state["datasets"][family["dataset"]]["status"] != "active" or family["generation"] >= params["generations"]:
        return False
    return state["height"] - family["latest"]["height"] - family["waited"] < params["patience"]


def wanting(state: State, params: dict[str, Any]) -> list[bytes]:
    """The data sets that want a family, fewest families first, then oldest."""
    ids = []
    for identity, entry in state["datasets"].items():
        mine = [family for family in state["families"] if family["dataset"] == identity]
        if entry["status"] == "active" and sum(is_open(state, family, params) for family in mine) < params["families"]:
            ids.append((len(mine), len(ids), identity))
    return [identity for _, _, identity in sorted(ids)]


def places_after(state: State, elapsed: int, params: dict[str, Any]) -> list[tuple[int, bytes, int]]:
    """(kind, data set, family) that may fill the block after ``state``."""
    new = len(state["families"])
    ages = list(state["datasets"])
    wants = wanting(state, params)
    first = [key for key in wants if state["datasets"][key]["unfilled"] < params["patience"]]
    order = [(FOUND, identity, new) for identity in first]
    families = [family for family in state["families"] if is_open(state, family, params)]
    for family in sorted(families, key=lambda f: (f["count"] - f["offset"], ages.index(f["dataset"]), f["id"])):
        kind = EVOLVE if len(family["founders"]) >= params["population"] else FOUND
        order.append((kind, family["dataset"], family["id"]))
    order += [(FOUND, identity, new) for identity in wants if identity not in first]
    places = order[: elapsed // params["skip"] + 1]
    if params["relief"] and elapsed >= params["relief"]:
        active = [identity for identity, entry in state["datasets"].items() if entry["status"] == "active"]
        fewest = min(active, key=lambda identity: sum(f["dataset"] == identity for f in state["families"]))
        places.append((FOUND, fewest, new))
    return places


def check_header(
    state: State, header: dict[str, Any], params: dict[str, Any], now: int
) -> tuple[int, bytes, int] | None:
    need(header["version"] == 1 and header["chain_id"] == state["spec"]["chain_id"], "version or chain")
    need(header["previous_hash"] == state["head"] and header["height"] == state["height"] + 1, "parent")
    need(state["time"] <= header["timestamp"] <= now + params["future"], "time")
    need(header["target"] == target_after(state, params) and header["params_hash"] == params["hash"], "target")
    need(is_signed(header["miner"], header["id"], header["signature"]), "signature")
    if header["kind"] == IDLE:
        need(params["idle"], "idle")
        unused = ("family_id", "generation", "model_count", "correct_new", "correct_parent", "eval_total")
        hashes = ("dataset_id", "previous_model_hash", "shape_hash", "model_hash")
        need(not any(header[name] for name in unused) and all(header[name] == ZERO for name in hashes), "unused")
        return None
    place = (header["kind"], header["dataset_id"], header["family_id"])
    need(place in places_after(state, header["timestamp"] - state["time"], params), "place")
    family = state["families"][place[2]] if place[2] < len(state["families"]) else None
    evolves = header["kind"] == EVOLVE
    need(header["generation"] == (family["generation"] + 1 if evolves else 0), "generation")
    need(header["model_count"] == (family["count"] if family else 0) + 1, "model count")
    need(header["previous_model_hash"] == (family["latest"]["block"] if family else ZERO), "previous model")
    need(header["correct_parent"] == (family["best"]["correct"] if evolves else 0), "parent claim")
    need(header["eval_total"] == state["datasets"][place[1]]["manifest"]["pool"], "eval total")
    return place


def check_ticket(state: State, header: dict[str, Any], params: dict[str, Any], pools: Pools) -> None:
    base, identity = state["spec"]["model"], state["spec"]["manifest"]["id"]
    if header["kind"] == EVOLVE:
        base, identity = state["families"][header["family_id"]]["best"]["model"], header["dataset_id"]
    images = pools[identity][0]
    drawn = list(range(len(images)))
    if len(images) > params["n_eval"]:
        words = stream(tagged("eval", header["previous_hash"], identity))
        drawn = distinct(words, len(images), params["n_eval"])
    seed = tagged("ticket", header["core"], header["nonce"].to_bytes(8, "little"))
    need(ticket(base, seed, params["flips"], [images[index] for index in drawn]) == header["y"], "y")
    cost = base["shape"]["macs"] + 98_304
    won = int.from_bytes(header["y"], "little") * 131_072 < header["target"] * cost
    need(params["open_lottery"] or won, "lottery lost")


def check_proofs(state: State, header: dict[str, Any], proofs: list[dict[str, Any]]) -> None:
    ids = [proof["id"] for proof in proofs]
    need(ids == sorted(set(ids)), "order of proofs")
    for proof in proofs:
        entry = state["datasets"].get(proof["id"])
        need(entry and entry["uploader"] and entry["status"] != "closed", "nothing to prove")
        leaves = -(-entry["manifest"]["bytes"] // 1_024)
        drawn = below(stream(tagged("availability", header["previous_hash"], header["miner"], proof["id"])), leaves)
        found = reading.root_by_path(proof["leaf"], drawn, leaves, proof["path"])
        need(found == entry["manifest"]["root"], "proof")


def check_stale(state: State, stale: dict[str, Any], now: int, params: dict[str, Any], pools: Pools) -> None:
    need(not params["open_lottery"] and params["stale_depth"], "stale headers are worth nothing")
    need(stale["id"] not in [state["head"], *(ancestor["head"] for ancestor in state["ancestors"])], "on the chain")
    need(stale["id"] not in [identity for _, identity in state["included"]], "included before")
    parents = [ancestor for ancestor in state["ancestors"] if ancestor["head"] == stale["previous_hash"]]
    need(parents, "stale parent")
    (parent,) = parents
    check_header(parent, stale, params_for(parent), now)
    check_ticket(parent, stale, params_for(parent), pools)


def check_model(
    state: State,
    header: dict[str, Any],
    place: tuple[int, bytes, int] | None,
    data: bytes,
    params: dict[str, Any],
    pools: Pools,
) -> dict[str, Any] | None:
    if place is None:
        need(not data, "a model in an IDLE block")
        return None
    kind, identity, number = place
    family = state["families"][number] if number < len(state["families"]) else None
    entry, (images, labels), size = state["datasets"][identity], pools[identity], header["eval_total"]
    claimed, parent = header["correct_new"], None
    if kind == EVOLVE:
        parent = family["best"]["model"]
        least = ceil_share(size, params["gain_bp"])
        if params["gain_of_last_bp"] and family["last_gain"]:
            least = family["last_gain"] * params["gain_of_last_bp"] // 10_000
        if params["gain_halflife"]:
            least >>= (header["timestamp"] - state["time"]) // params["gain_halflife"]
        need(claimed - family["best"]["correct"] >= max(1, least), "gain")
        model = reading.child_of(parent, data)
    else:
        model = reading.model_of(data)
        share = params["acc_bp"] if entry["least_bp"] is None else entry["least_bp"]
        need(claimed >= ceil_share(size, share), "accuracy")
    shape = model["shape"]
    need(tagged("shape", shape["bytes"]) == header["shape_hash"] and model["hash"] == header["model_hash"], "hashes")
    if family is not None:
        need(shape["bytes"] == family["latest"]["model"]["shape"]["bytes"], "shape")
    else:
        need(all(shape["bytes"] != f["latest"]["model"]["shape"]["bytes"] for f in state["families"]), "old shape")
        wanted = entry["manifest"]
        fits = (wanted["height"], wanted["width"], wanted["planes"]) == shape["input"]
        need(fits and shape["layers"][-1][1] == wanted["classes"], "input")
    need(shape["weights"] <= params["connections"] and shape["macs"] * size <= params["gate"], "model size")
    if parent is not None:
        changed = parent["flat"] ^ model["flat"]
        zero, one = family["seen"] or values_of(parent)
        novel = changed & ~(zero & one)
        least = ceil_share(shape["weights"], params["diff_bp"])
        need(min((changed).bit_count(), (novel).bit_count()) >= least, "difference")
    check_rows(state, model, parent, number, params)
    answers = [label(model, image) for image in images]
    right = sum(answer == wanted for answer, wanted in zip(answers, labels, strict=True))
    need(right == claimed, "claim")
    if kind == FOUND and entry["uploader"]:
        commonest = max(labels.count(value) for value in set(labels))
        need(right >= commonest + ceil_share(size, params["margin_bp"]), "majority")
    if kind == FOUND and family is not None:
        for founder in family["founders"]:
            differ = sum(a != b for a, b in zip(answers, founder, strict=True))
            need(differ >= ceil_share(size, params["family_diff_bp"]), "founder difference")
    return {"model": model, "answers": answers}


def check_rows(
    state: State, model: dict[str, Any], parent: dict[str, Any] | None, number: int, params: dict[str, Any]
) -> None:
    others = [family["latest"]["model"] for family in state["families"] if family["id"] != number][-256:]
    reused, total = near_rows(model, others)
    allowed = total * params["shared_bp"] // 10_000
    need(reused <= allowed or (parent is not None and reused <= near_rows(parent, others)[0]), "rows")


def near_rows(model: dict[str, Any], others: list[dict[str, Any]]) -> tuple[int, int]:
    near = total = 0
    for k, rows in zip(model["shape"]["fan_in"], model["rows"], strict=True):
        if k < 64:
            continue
        theirs = [
            row for other in others for length, layer in zip(other["shape"]["fan_in"], other["rows"], strict=True)
            if length == k for row in layer
        ]  # fmt: skip
        for row in rows:
            total += 1
            distances = [(row ^ other).bit_count() for other in theirs]
            near += any(min(distance, k - distance) <= k // 8 for distance in distances)
    return near, total


def values_of(model: dict[str, Any]) -> tuple[int, int]:
    """The weights that are 0 and those that are 1, as bits."""
    return ~model["flat"] & (1 << model["shape"]["weights"]) - 1, model["flat"]


def after(
    state: State, block: dict[str, Any], place: tuple[int, bytes, int] | None, found: dict[str, Any] | None,
    books: dict[str, Any], params: dict[str, Any],
) -> State:  # fmt: skip
    header, height = block["header"], block["header"]["height"]
    family = None
    if place is not None and place[2] < len(state["families"]):
        family = state["families"][place[2]]
    parent_miner = family["best"]["miner"] if family is not None and header["kind"] == EVOLVE else None
    minted = reward(state, block, parent_miner, books, params)
    unfilled = set(wanting(state, params))
    if place is not None and family is None:
        unfilled.discard(place[1])
    age(books, {proof["id"] for proof in block["proofs"]}, unfilled, height, params)
    for coinbase in [each for each in books["coinbases"] if each["height"] <= height + 1]:
        coins, nonce = books["accounts"].get(coinbase["owner"], (0, 0))
        books["accounts"][coinbase["owner"]] = (coins + coinbase["amount"], nonce)
    own_included = [(height, block["stale"]["id"])] if block["stale"] else []
    depth = params["stale_depth"]
    ancestors = [*state["ancestors"], {**state, "ancestors": []}]
    made = {
        "spec": state["spec"], "head": header["id"], "height": height, "time": header["timestamp"],
        "weight": state["weight"] + (1 << 256) // (header["target"] + 1),
        "datasets": books["datasets"], "families": families_after(state, header, family, found, params),
        "accounts": {key: account for key, account in books["accounts"].items() if account != (0, 0)},
        "coinbases": [each for each in books["coinbases"] if each["height"] > height + 1],
        "supply": state["supply"] + minted - books["burned"],
        "ancestors": ancestors[len(ancestors) - depth :] if depth < len(ancestors) else ancestors,
        "included": [pair for pair in state["included"] if pair[0] + depth > height] + own_included,
    }  # fmt: skip
    keys = [f["count"] - f["offset"] for f in state["families"] if is_open(state, f, params)]
    for member in made["families"]:
        was, now = (states["datasets"].get(member["dataset"]) for states in (state, made))
        if was and was["status"] == "suspended" and now["status"] == "active":
            member["offset"] = member["count"] - min(keys, default=1)
            member["waited"] += height - was["since"]
    return made


def families_after(
    state: State,
    header: dict[str, Any],
    family: dict[str, Any] | None,
    found: dict[str, Any] | None,
    params: dict[str, Any],
) -> list[dict[str, Any]]:
    families = [dict(member) for member in state["families"]]
    if found is None:
        return families
    record = {
        "model": found["model"], "block": header["id"], "height": header["height"],
        "correct": header["correct_new"], "miner": header["miner"],
    }  # fmt: skip
    if family is None:
        keys = [f["count"] - f["offset"] for f in state["families"] if is_open(state, f, params)]
        families.append(
            {"id": len(families), "dataset": header["dataset_id"], "founders": [found["answers"]], "best": record,
             "latest": record, "generation": 0, "count": 1, "offset": 1 - min(keys, default=1), "last_gain": 0,
             "seen": None, "waited": 0}
        )  # fmt: skip
        return families
    grown = families[family["id"]]
    grown |= {"latest": record, "count": family["count"] + 1, "waited": 0}
    if header["kind"] == FOUND:
        grown["founders"] = [*family["founders"], found["answers"]]
        if record["correct"] >= family["best"]["correct"]:
            grown |= {"best": record, "seen": None}
        return families
    zero, one = family["seen"] or values_of(family["best"]["model"])
    own_zero, own_one = values_of(found["model"])
    seen = (zero | own_zero, one | own_one)
    if 2 * (seen[0] & seen[1]).bit_count() >= found["model"]["shape"]["weights"]:
        seen = (own_zero, own_one)
    gain = record["correct"] - family["best"]["correct"]
    grown |= {"best": record, "generation": family["generation"] + 1, "last_gain": gain, "seen": seen}
    return families
