"""Bytes to dicts: PROTOCOL.md, sections 1 to 3 and the manifest of section 9."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise
from typing import Any, NoReturn

ZERO = bytes(32)


class Refused(Exception):  # noqa: N818  (a verdict)
    """The bytes break a rule."""


def refuse(why: str) -> NoReturn:
    raise Refused(why)


def need(holds: object, why: str) -> None:
    if not holds:
        refuse(why)


def tagged(tag: str, *parts: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(b"bnnchain/" + tag.encode()).digest() + b"".join(parts)).digest()


def root_of(leaves: list[bytes]) -> bytes:
    """RFC 6962: the left subtree is the largest power of two below the count."""
    if not leaves:
        return ZERO
    if len(leaves) == 1:
        return tagged("leaf", leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return tagged("node", root_of(leaves[:split]), root_of(leaves[split:]))


def root_by_path(leaf: bytes, index: int, count: int, path: list[bytes]) -> bytes | None:
    """The root that a path of siblings, lowest first, leads to; None where it has the wrong length."""
    if count == 1:
        return None if path else tagged("leaf", leaf)
    if not path:
        return None
    split = 1
    while split * 2 < count:
        split *= 2
    if index < split:
        inner = root_by_path(leaf, index, split, path[:-1])
        return None if inner is None else tagged("node", inner, path[-1])
    inner = root_by_path(leaf, index - split, count - split, path[:-1])
    return None if inner is None else tagged("node", path[-1], inner)


class Cursor:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        need(0 <= size <= len(self.data) - self.at, "truncated")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        value, shift = 0, 0
        while True:
            (octet,) = self.take(1)
            value |= (octet & 127) << shift
            shift += 7
            if octet < 128:
                need(octet or shift == 7, "longer than the shortest form")
                return value
            need(shift < 35, "varint of more than five bytes")

    def text(self, limit: int) -> str:
        size = self.number(2)
        need(size <= limit, "text too long")
        try:
            return self.take(size).decode()
        except UnicodeDecodeError:
            refuse("no UTF-8")

    def end(self) -> None:
        need(self.at == len(self.data), "trailing bytes")


HEADER_FIELDS = (
    ("version", 2), ("chain_id", 4), ("height", 8), ("previous_hash", 0), ("timestamp", 8), ("miner", 0),
    ("body_root", 0), ("params_hash", 0), ("kind", 1), ("dataset_id", 0), ("family_id", 4), ("generation", 4),
    ("model_count", 4), ("previous_model_hash", 0), ("shape_hash", 0), ("model_hash", 0), ("correct_new", 4),
    ("correct_parent", 4), ("eval_total", 4), ("target", 32), ("nonce", 8), ("y", 0),
)  # fmt: skip
"""Sizes of integers; 0: 32 bytes as they are."""


def header_of(cursor: Cursor) -> dict[str, Any]:
    start = cursor.at
    header: dict[str, Any] = {name: cursor.number(size) if size else cursor.take(32) for name, size in HEADER_FIELDS}
    unsigned = cursor.data[start : cursor.at]
    header["id"] = tagged("block", unsigned)
    header["core"] = tagged("core", unsigned[:-40])
    header["signature"] = cursor.take(64)
    header["raw"] = cursor.data[start : cursor.at]
    need(1 <= header["kind"] <= 3, "unknown kind")
    return header


def items_of(cursor: Cursor, most: int, largest: int) -> list[bytes]:
    count = cursor.varint()
    need(count <= most, "too many items")
    items = []
    for _ in range(count):
        size = cursor.varint()
        need(size <= largest, "item too large")
        items.append(cursor.take(size))
    return items


def block_of(data: bytes) -> dict[str, Any]:
    need(len(data) <= 1 << 20, "block too large")
    cursor = Cursor(data)
    header = header_of(cursor)
    size = cursor.varint()
    need(size <= 1 << 20, "model too large")
    model = cursor.take(size)
    proofs, stales = items_of(cursor, 128, 32 + 2 + 1_024 + 1 + 14 * 32), items_of(cursor, 1, 439)
    transactions = items_of(cursor, 4_096, 4_096)
    cursor.end()
    leaves = [b"\0" + item for item in proofs] + [b"\1" + item for item in stales] + [b"\2" + t for t in transactions]
    return {
        "header": header,
        "model": model,
        "proofs": [proof_of(item) for item in proofs],
        "stale": stale_of(stales[0]) if stales else None,
        "transactions": [transaction_of(item) for item in transactions],
        "transaction_bytes": sum(map(len, transactions)),
        "root": root_of(leaves),
        "size": len(data),
    }


def stale_of(data: bytes) -> dict[str, Any]:
    cursor = Cursor(data)
    header = header_of(cursor)
    cursor.end()
    return header


def proof_of(data: bytes) -> dict[str, Any]:
    cursor = Cursor(data)
    identity, size = cursor.take(32), cursor.number(2)
    need(size <= 1_024, "leaf too large")
    leaf, hashes = cursor.take(size), cursor.number(1)
    need(hashes <= 14, "path too long")
    path = [cursor.take(32) for _ in range(hashes)]
    cursor.end()
    return {"id": identity, "leaf": leaf, "path": path}


def transaction_of(data: bytes) -> dict[str, Any]:
    cursor = Cursor(data)
    made: dict[str, Any] = {"version": cursor.number(1), "kind": cursor.number(1), "chain_id": cursor.number(4)}
    made |= {"sender": cursor.take(32), "nonce": cursor.number(8), "fee": cursor.number(8), "expiry": cursor.number(8)}
    if made["kind"] == 1:
        made |= {"recipient": cursor.take(32), "amount": cursor.number(8)}
    elif made["kind"] == 2:
        size = cursor.varint()
        need(size <= 640, "manifest too large")
        made["manifest"] = manifest_of(cursor.take(size))
        made |= {"least_bp": cursor.number(8), "bounty": cursor.number(8)}
    elif made["kind"] == 3:
        made |= {"id": cursor.take(32), "amount": cursor.number(8)}
    elif made["kind"] == 4:
        made["headers"] = [header_of(cursor), header_of(cursor)]
    else:
        refuse("unknown transaction kind")
    made["message"] = tagged("tx", data[: cursor.at])
    made["signature"] = cursor.take(64)
    cursor.end()
    return made


def manifest_of(data: bytes) -> dict[str, Any]:
    cursor = Cursor(data)
    made: dict[str, Any] = {"name": cursor.text(64), "height": cursor.number(2), "width": cursor.number(2)}
    levels = cursor.take(cursor.number(1))
    made |= {"planes": len(levels), "classes": cursor.number(2)}
    need(cursor.number(1) == 1, "label coding")
    made |= {
        "pool": cursor.number(4),
        "hidden": cursor.number(4),
        "root": cursor.take(32),
        "hidden_root": cursor.take(32),
    }
    licence, origin = cursor.text(64), cursor.text(256)
    cursor.end()
    need(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", made["name"]), "name")
    need(all(text and re.fullmatch(r"[ -~]*", text) for text in (licence, origin)), "texts")
    need(1 <= made["height"] <= 256 and 1 <= made["width"] <= 256 and 1 <= len(levels) <= 64, "image")
    need(all(low < high for low, high in pairwise((0, *levels))), "levels")
    need(2 <= made["classes"] <= 256 and 1 <= made["pool"] <= 1 << 24 and made["hidden"] <= 1 << 24, "sizes")
    image = -(-made["height"] * made["width"] * len(levels) // 8)
    made["bytes"] = made["pool"] * (image + 1)
    need(max(made["bytes"], made["hidden"] * (image + 1)) <= 1 << 24, "payload")
    need(made["root"] != ZERO and (made["hidden_root"] == ZERO) == (made["hidden"] == 0), "roots")
    made["id"] = tagged("dataset", data)
    return made


PARAMS = [
    "open_lottery",
    "idle",
    "interval",
    "future",
    "gain_bp",
    "gain_of_last_bp",
    "gain_halflife",
    "diff_bp",
    "acc_bp",
    "family_diff_bp",
    "families",
    "population",
    "generations",
    "patience",
    "connections",
    "gate",
    "n_eval",
    "flips",
    "skip",
    "relief",
    "shared_bp",
    "margin_bp",
    "max_count",
    "max_transaction_bytes",
    "max_bytes",
    "subsidy",
    "idle_subsidy",
    "maturity",
    "miner_bp",
    "parent_bp",
    "reporter_bp",
    "stale_depth",
    "stale_divisor",
    "min_pool",
    "max_active",
    "max_pending",
    "fee_per_kib",
    "deposit",
    "window",
    "least",
    "pending",
    "suspend",
    "suspended",
    "life",
]


def spec_of(data: bytes) -> dict[str, Any]:
    """A spec is the node's own: it is read, not judged."""
    cursor = Cursor(data)
    cursor.take(2)
    cursor.text(64)
    spec: dict[str, Any] = {"chain_id": cursor.number(4), "time": cursor.number(8), "target": cursor.number(32)}
    schedule = []
    for _ in range(cursor.varint()):
        height, raw = cursor.number(8), cursor.take(8 * len(PARAMS))
        values = [int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8)]
        schedule.append((height, dict(zip(PARAMS, values, strict=True)) | {"hash": tagged("params", raw)}))
    spec["schedule"] = schedule
    spec["manifest"] = manifest_of(cursor.take(cursor.varint()))
    spec["model"] = model_of(cursor.take(cursor.varint()))
    spec["coins"] = {cursor.take(32): cursor.number(8) for _ in range(cursor.varint())}
    cursor.end()
    first = {name: 0 if size else ZERO for name, size in HEADER_FIELDS}
    first |= {
        "version": 1,
        "chain_id": spec["chain_id"],
        "timestamp": spec["time"],
        "kind": 3,
        "target": spec["target"],
    }
    first |= {"body_root": tagged("spec", data), "params_hash": schedule[0][1]["hash"]}
    parts = [first[name].to_bytes(size, "little") if size else first[name] for name, size in HEADER_FIELDS]
    spec["genesis"] = tagged("block", b"".join(parts))
    return spec


class Bits:
    """One string of bits, the least significant of each byte first."""

    def __init__(self, data: bytes) -> None:
        self.string = "".join(f"{octet:08b}"[::-1] for octet in data)
        self.at = 0

    def number(self, width: int) -> int:
        piece = self.string[self.at : self.at + width]
        need(len(piece) == width, "bits cut short")
        self.at += width
        return int(piece[::-1], 2) if piece else 0

    def zeros(self) -> int:
        end = self.string.find("1", self.at)
        need(end >= 0, "zeros without an end")
        count, self.at = end - self.at, end + 1
        return count

    def count(self, most: int) -> int:
        width = self.zeros()
        need(width < 32, "count too long")
        value = (1 << width | self.number(width)) - 1
        need(value <= most, "more entries than places")
        return value

    def rice(self, count: int) -> list[int]:
        k = self.number(5)
        highs = [self.zeros() for _ in range(count)]
        values = [high << k | self.number(k) for high in highs]
        costs = [sum(value >> j for value in values) + j * count for j in range(32)]
        need(k == costs.index(min(costs)), "not the shortest code")
        return values

    def end(self) -> None:
        rest = self.string[self.at :]
        need(len(rest) < 8 and "1" not in rest, "trailing bits")


def shape_of(cursor: Cursor) -> dict[str, Any]:
    start = cursor.at
    height, width, planes, count = cursor.number(2), cursor.number(2), cursor.number(1), cursor.number(1)
    need(1 <= height <= 256 and 1 <= width <= 256 and 1 <= planes <= 64 and 1 <= count <= 16, "input")
    layers = [(cursor.number(1), cursor.number(2)) for _ in range(count)]
    shape: dict[str, Any] = {"input": (height, width, planes), "layers": layers, "fan_in": [], "bytes": b"", "macs": 0}
    need(layers[-1][0] == 2 and 2 <= layers[-1][1] <= 256, "last layer")
    channels, is_flat = planes, False
    for kind, size in layers:
        need(kind <= 2 and 1 <= size <= 4_096, "layer")
        if kind == 2:
            fan_in, positions, is_flat = height * width * channels, 1, True
            height = width = 1
        else:
            need(not is_flat and height >= 3 and width >= 3, "room")
            fan_in, height, width = 9 * channels, height - 2, width - 2
            positions = height * width
            if kind == 1:
                height, width = height // 2, width // 2
                need(height and width, "pool")
        need(fan_in <= 1 << 20, "fan-in")
        channels = size
        shape["fan_in"].append(fan_in)
        shape["macs"] += fan_in * size * positions
    shape["bytes"] = cursor.data[start : cursor.at]
    shape["weights"] = sum(k * size for k, (_, size) in zip(shape["fan_in"], layers, strict=True))
    return shape


def threshold_width(k: int) -> int:
    width = 0
    while 1 << width < k + 2:
        width += 1
    return width


def model_of(data: bytes) -> dict[str, Any]:
    need(len(data) <= 1 << 20, "model too large")
    cursor = Cursor(data)
    shape = shape_of(cursor)
    classes = shape["layers"][-1][1]
    hidden = list(zip(shape["fan_in"], shape["layers"], strict=True))[:-1]
    size = shape["weights"] + 1 + sum(threshold_width(k) * out for k, (_, out) in hidden)
    left = len(data) - cursor.at
    need(left in (-(-size // 8), -(-(size + 22 * classes) // 8)), "model size")
    bits = Bits(data[cursor.at :])
    flat = bits.number(shape["weights"])
    thresholds = [bits.number(threshold_width(k)) for k, (_, out) in hidden for _ in range(out)]
    has_biases = bits.number(1)
    biases = [bits.number(22) - (1 << 20) for _ in range(classes)] if has_biases else [0] * classes
    need(not has_biases or any(biases), "zero biases spelt out")
    bits.end()
    return checked_model(shape, flat, thresholds, biases)


def checked_model(shape: dict[str, Any], flat: int, thresholds: list[int], biases: list[int]) -> dict[str, Any]:
    """flat: all weights as one integer, the first one lowest; thresholds over all hidden layers."""
    limits, rows, at = iter(thresholds), [], 0
    layers = list(zip(shape["fan_in"], shape["layers"], strict=True))
    for k, (_, out) in layers:
        rows.append([flat >> at + k * row & (1 << k) - 1 for row in range(out)])
        at += k * out
    parts = [shape["bytes"]]
    for (k, _), weights in zip(layers, rows, strict=True):
        parts += [row.to_bytes(-(-k // 64) * 8, "little") for row in weights]
    per_layer = [[next(limits) for _ in range(out)] for _, (_, out) in layers[:-1]]
    for (k, _), values in zip(layers, per_layer, strict=False):
        need(all(0 <= value <= k + 1 for value in values), "threshold")
        parts += [value.to_bytes(4, "little", signed=True) for value in values]
    need(all(abs(bias) <= 1 << 20 for bias in biases), "bias")
    parts += [bias.to_bytes(4, "little", signed=True) for bias in biases]
    return {
        "shape": shape, "flat": flat, "rows": rows, "thresholds": per_layer, "biases": biases,
        "hash": tagged("model", b"".join(parts)),
    }  # fmt: skip


def child_of(parent: dict[str, Any], data: bytes) -> dict[str, Any]:
    need(len(data) <= 1 << 20, "difference too large")
    bits, shape, flat = Bits(data), parent["shape"], parent["flat"]
    for position in positions_of(bits, shape["weights"]):
        flat ^= 1 << position
    changed = [[value for layer in parent["thresholds"] for value in layer], list(parent["biases"])]
    for values in changed:
        places = positions_of(bits, len(values))
        codes = bits.rice(len(places)) if places else []
        for place, code in zip(places, codes, strict=True):
            values[place] += -(code // 2 + 1) if code % 2 else code // 2 + 1
            need(-(1 << 31) <= values[place] < 1 << 31, "no i32")
    bits.end()
    return checked_model(shape, flat, *changed)


def positions_of(bits: Bits, most: int) -> list[int]:
    count, at, places = bits.count(most), -1, []
    for gap in bits.rice(count) if count else []:
        at += gap + 1
        places.append(at)
    need(at < most, "position past the end")
    return places
