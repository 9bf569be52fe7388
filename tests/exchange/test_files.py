from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from exchange.papers import papers, zoo_model

from bnnchain.bnn.encoding import MAX_WIRE_BYTES, encode_model, model_hash
from bnnchain.exchange.files import papers_path, read_model, write_model
from bnnchain.exchange.provenance import MAX_JSON_BYTES, Provenance, provenance_from_json
from bnnchain_kernels.errors import Fault, Invalid, Unavailable

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_the_wire_form_and_its_papers_lie_beside_it(tmp_path: Path) -> None:
    model, path = zoo_model("cnn-digits"), tmp_path / "x.bnn"
    written = papers(model, thresholds=(3, 7, 11, 15))
    write_model(path, model, written)
    assert path.read_bytes() == encode_model(model)
    found, provenance = read_model(path)
    assert (model_hash(found), provenance) == (model_hash(model), written)


def test_without_papers_the_hash_alone_is_known(tmp_path: Path) -> None:
    model, path = zoo_model("cnn-4k"), tmp_path / "x.bnn"
    path.write_bytes(encode_model(model))
    assert read_model(path)[1] == Provenance(model_hash(model).hex())


def test_another_models_papers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bnn"
    write_model(path, zoo_model("cnn-4k"))
    path.write_bytes(encode_model(zoo_model("cnn-digits")))
    with pytest.raises(Invalid, match="another model's"):
        read_model(path)
    with pytest.raises(Invalid, match="another model's"):
        write_model(path, zoo_model("cnn-digits"), papers(zoo_model("cnn-4k")))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x", "not JSON"),
        ("[" * 4000, "not JSON"),
        ("[1]", "unknown fields"),
        ('{"model_hash": "a", "evil": 1}', "unknown fields"),
        ("{}", "field=model_hash"),
        ('{"model_hash": 5}', "field=model_hash"),
        ('{"model_hash": "a", "height": -1}', "field=height"),
        ('{"model_hash": "a", "height": true}', "field=height"),
        ('{"model_hash": "a", "height": 1e400}', "field=height"),
        ('{"model_hash": "a", "total": 9223372036854775808}', "field=total"),
        ('{"model_hash": "a", "licence": "\\u001b[31m"}', "field=licence"),
        ('{"model_hash": "a", "origin": "\\u202e"}', "field=origin"),
        ('{"model_hash": "a", "origin": "' + "x" * 600 + '"}', "field=origin"),
        ('{"model_hash": "a", "thresholds": []}', "field=thresholds"),
        ('{"model_hash": "a", "thresholds": [7, 3]}', "field=thresholds"),
        ('{"model_hash": "a", "thresholds": [1.5]}', "field=thresholds"),
        ('{"model_hash": "a", "thresholds": "12"}', "field=thresholds"),
        (" " * (MAX_JSON_BYTES + 1), "too large"),
    ],
)
def test_bad_papers_are_refused(text: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as refusal:
        provenance_from_json(text)
    assert refusal.value.code == "bad-model-file"


def test_files_have_limits_and_reasons(tmp_path: Path) -> None:
    path = tmp_path / "x.bnn"
    with pytest.raises(Unavailable, match="No such file"):
        read_model(path)
    path.write_bytes(bytes(MAX_WIRE_BYTES + 1))
    with pytest.raises(Invalid, match="file too large"):
        read_model(path)
    path.write_bytes(encode_model(zoo_model("cnn-4k"))[:-1])
    with pytest.raises(Invalid, match="bad-encoding"):
        read_model(path)
    with pytest.raises(Fault, match="cannot write"):
        write_model(tmp_path / "nowhere" / "x.bnn", zoo_model("cnn-4k"))
    write_model(path, zoo_model("cnn-4k"))
    papers_path(path).write_text(json.dumps({"model_hash": "a" * 64, "x": "y"}))
    with pytest.raises(Invalid, match="unknown fields"):
        read_model(path)


def test_lines_for_people() -> None:
    described = papers(zoo_model("cnn-digits"), thresholds=(3, 7, 11, 15))
    lines = described.lines()
    assert "accuracy: 54321 of 60000 (90.53 %)" in lines
    assert "thresholds: 3 7 11 15" in lines
    assert not any(line.startswith(("correct", "total")) for line in lines)
    assert replace(described, total=0).lines()  # nothing is divided by it
