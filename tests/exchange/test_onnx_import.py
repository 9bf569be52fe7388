from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from exchange.graphs import FLOAT, Graph, channels_first, channels_last, reshaped
from exchange.papers import papers, zoo_model
from onnx import helper
from random_networks import random_architecture, random_model

from bnnchain.bnn.encoding import model_hash
from bnnchain.bnn.zoo import ZOO
from bnnchain.exchange import onnx_graph, verification
from bnnchain.exchange.onnx_export import export_onnx
from bnnchain.exchange.onnx_import import import_onnx
from bnnchain_kernels.errors import Invalid, Unavailable
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, unpack_weights
from bnnchain_kernels.native import NativeEvaluator
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def refusal(path: Path, *, binary_input: bool = False) -> str:
    with pytest.raises(Invalid) as refused:
        import_onnx(path, ReferenceEvaluator, binary_input=binary_input)
    assert refused.value.code == "bad-import"
    assert "\n" not in str(refused.value)
    return str(refused.value)


# Round trips.


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("takes_pixels", [False, True])
def test_our_own_exports_come_back_the_same(seed: int, takes_pixels: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    shape = random_architecture(rng)
    model = random_model(rng, shape)
    thresholds = tuple(range(9, 9 + shape.planes)) if takes_pixels else None
    written, path = papers(model, thresholds=thresholds), tmp_path / "m.onnx"
    path.write_bytes(export_onnx(model, written, thresholds))
    found, provenance = import_onnx(path, ReferenceEvaluator)
    assert model_hash(found) == model_hash(model)
    assert provenance == written


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_comes_back_the_same(name: str, tmp_path: Path) -> None:
    model, path = zoo_model(name), tmp_path / "m.onnx"
    path.write_bytes(export_onnx(model, papers(model), None))
    assert model_hash(import_onnx(path, NativeEvaluator)[0]) == model_hash(model)


def test_papers_of_another_model_are_not_believed(tmp_path: Path) -> None:
    model, path = zoo_model("cnn-digits"), tmp_path / "m.onnx"
    path.write_bytes(export_onnx(model, papers(zoo_model("cnn-4k")), (3, 7, 11, 15)))
    provenance = import_onnx(path, ReferenceEvaluator)[1]
    assert provenance.chain is None
    assert (provenance.model_hash, provenance.thresholds) == (model_hash(model).hex(), (3, 7, 11, 15))


# Other tools' graphs: `import_onnx` itself compares every sum and 512 answers with onnxruntime.


@pytest.mark.parametrize("seed", range(5))
def test_channels_first_with_negative_scales(seed: int, tmp_path: Path) -> None:
    model, provenance = import_onnx(channels_first(seed=seed).save(tmp_path / "m.onnx"), ReferenceEvaluator)
    assert model.architecture == Architecture(12, 12, 1, (Conv3x3(5, pool=True), Conv3x3(7), Dense(4)))
    assert provenance.thresholds is None
    assert len({int(limit) for limits in model.thresholds for limit in limits}) > 3


@pytest.mark.parametrize("seed", range(5))
def test_channels_last_with_softmax(seed: int, tmp_path: Path) -> None:
    model, _ = import_onnx(channels_last(seed=seed).save(tmp_path / "m.onnx"), ReferenceEvaluator)
    assert model.architecture == Architecture(12, 12, 1, (Conv3x3(5, pool=True), Conv3x3(7), Dense(6), Dense(4)))


@pytest.mark.parametrize("planes", [None, (128,), (3, 7, 200)])
def test_reshapes_that_move_sides_of_one(planes: tuple[int, ...] | None, tmp_path: Path) -> None:
    path = reshaped(planes=planes).save(tmp_path / "m.onnx")
    model, provenance = import_onnx(path, ReferenceEvaluator, binary_input=planes is None)
    count = len(planes or (1,))
    assert model.architecture == Architecture(11, 11, count, (Conv3x3(5, pool=True), Conv3x3(6, pool=True), Dense(4)))
    assert provenance.thresholds == planes


def test_other_reshapes_are_refused(tmp_path: Path) -> None:
    graph = Graph(("batch", 12, 12, 1))
    graph.add("Reshape", graph.constant([-1, 1, 9, 16], np.int64)).larq_sign().conv(5, 1)
    assert "reshapes otherwise than by moving sides of 1" in refusal(graph.save(tmp_path / "m.onnx"))
    for planes in ((7, 3), (0, 5), (3, 300)):
        message = refusal(reshaped(planes=planes).save(tmp_path / "m.onnx"))
        assert "not set from rising grey values of 1 to 255" in message


def test_negative_scale_before_the_pool(tmp_path: Path) -> None:
    graph = Graph(("batch", 1, 12, 12)).larq_sign().conv(5, 1)
    graph.norm(5, -np.ones(5)).pool().larq_sign().add("Flatten").dense(125, 3)
    model, _ = import_onnx(graph.save(tmp_path / "m.onnx"), ReferenceEvaluator)
    kernel = onnx.numpy_helper.to_array(graph.constants[1]).transpose(0, 2, 3, 1).reshape(5, 9)
    np.testing.assert_array_equal(unpack_weights(model)[0], kernel < 0)


def test_pool_after_the_sign_and_strict_comparison(tmp_path: Path) -> None:
    graph = Graph(("batch", 1, 12, 12)).larq_sign().conv(5, 1).where_sign("Greater", 1.0).pool()
    graph.add("Flatten").dense(125, 3)
    model, _ = import_onnx(graph.save(tmp_path / "m.onnx"), ReferenceEvaluator)
    assert model.architecture.layers[0] == Conv3x3(5, pool=True)
    np.testing.assert_array_equal(model.thresholds[0], np.full(5, 6))  # s > 1 is s >= 3 is P >= 6 of 9


def test_dense_alone_and_biases(tmp_path: Path) -> None:
    graph = Graph(("batch", 1, 4, 4)).larq_sign().add("Flatten")
    graph.add("Gemm", graph.constant(graph.signs(3, 16)), graph.constant([4, -5, 6]), transB=1)
    model, _ = import_onnx(graph.save(tmp_path / "m.onnx"), ReferenceEvaluator)
    assert model.biases.tolist() == [4, -5, 6]


def test_float_input_is_binary_where_the_user_says_so(tmp_path: Path) -> None:
    graph = Graph(("batch", 1, 12, 12)).conv(5, 1).norm(5).larq_sign().add("Flatten").dense(500, 3)
    path = graph.save(tmp_path / "m.onnx")
    assert "Conv n0" in refusal(path)
    assert "its input is not binary" in refusal(path)
    assert import_onnx(path, ReferenceEvaluator, binary_input=True)[0].architecture.planes == 1


def test_a_fixed_batch(tmp_path: Path) -> None:
    graph = Graph((3, 1, 12, 12)).larq_sign().conv(5, 1).norm(5).larq_sign().add("Flatten").dense(500, 3)
    assert import_onnx(graph.save(tmp_path / "m.onnx"), ReferenceEvaluator)


# Refusals name the node and the reason.


def after_conv(change: Callable[[Graph], Graph], **conv: object) -> Graph:
    graph = Graph(("batch", 1, 12, 12)).larq_sign().conv(4, 1, **conv)
    return change(graph)


def rest(graph: Graph, inputs: int = 400) -> Graph:
    return graph.larq_sign().add("Flatten").dense(inputs, 3)


REFUSED: dict[str, tuple[Callable[[], Graph], str]] = {
    "padding": (lambda: after_conv(rest, pads=[1, 1, 1, 1]), "Conv n3, reason=pads is [1, 1, 1, 1]"),
    "auto padding": (lambda: after_conv(rest, auto_pad="SAME_UPPER"), "Conv n3, reason=pads its input"),
    "stride": (lambda: after_conv(rest, strides=[2, 2]), "Conv n3, reason=strides is [2, 2]"),
    "dilation": (lambda: after_conv(rest, dilations=[2, 2]), "dilations is [2, 2]"),
    "relu": (lambda: after_conv(lambda graph: rest(graph.add("Relu"))), "Relu n4, reason=is no part"),
    "average pool": (
        lambda: after_conv(lambda graph: rest(graph.add("AveragePool", kernel_shape=[2, 2], strides=[2, 2]))),
        "AveragePool n4, reason=is no part",
    ),
    "pool of three": (
        lambda: after_conv(lambda graph: rest(graph.pool(kernel_shape=[3, 3]))),
        "MaxPool n4, reason=kernel_shape is [3, 3]",
    ),
    "pool rounding up": (lambda: after_conv(lambda graph: rest(graph.pool(ceil_mode=1))), "ceil_mode is 1"),
    "two pools": (lambda: after_conv(lambda graph: rest(graph.pool().pool())), "does not follow one convolution"),
    "no sign": (
        lambda: after_conv(lambda graph: graph.add("Flatten").dense(400, 3)),
        "layer=Conv n3, reason=its sums reach MatMul",
    ),
    "sign of zero": (
        # Even sums: without the nudge of Larq's sign, the sign of zero is neither -1 nor +1.
        lambda: after_conv(lambda graph: graph.larq_sign().conv(4, 4).add("Sign").add("Flatten").dense(256, 3)),
        "can reach zero, whose sign is neither",
    ),
    "scale after pool": (
        lambda: after_conv(lambda graph: rest(graph.pool().norm(4, -np.ones(4)), 100)),
        "scaled by a negative number after its pool",
    ),
    "two normalisations": (lambda: after_conv(lambda graph: rest(graph.norm(4).norm(4))), "a second normalisation"),
    "a constant per place": (
        lambda: after_conv(lambda graph: rest(graph.add("Add", graph.constant(np.ones((10, 10)))))),
        "Add n4, reason=its constant is not one number, nor one for each neuron",
    ),
    "infinite shift": (lambda: after_conv(lambda graph: rest(graph.add("Add", graph.constant(np.inf)))), "finite"),
    "scaled scores": (
        lambda: after_conv(lambda graph: rest(graph).add("Mul", graph.constant(0.5))),
        "score 0 is scaled or normalised",
    ),
    "broken bias": (
        lambda: after_conv(lambda graph: rest(graph).add("Add", graph.constant([1, 2.5, 3]))),
        "score 1 is scaled or normalised: not the sum plus an integer",
    ),
    "huge bias": (
        lambda: after_conv(lambda graph: rest(graph).add("Add", graph.constant(2.0**21))),
        "bias 0 exceeds 1048576",
    ),
    "sigmoid at the end": (
        lambda: after_conv(lambda graph: rest(graph).add("Sigmoid")),
        "Sigmoid n9, reason=is no part",
    ),
    "signs at the end": (lambda: after_conv(lambda graph: rest(graph).larq_sign()), "does not end with a layer's sums"),
    "wrong inputs": (lambda: after_conv(lambda graph: graph.larq_sign().add("Flatten").dense(99, 3)), "99 inputs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_chain_model_can_be_is_refused_by_name(name: str, tmp_path: Path) -> None:
    make, reason = REFUSED[name]
    assert reason in refusal(make().save(tmp_path / "m.onnx"))


def test_float_weights_are_refused(tmp_path: Path) -> None:
    graph = Graph(("batch", 1, 12, 12)).larq_sign()
    graph.add("Conv", graph.constant(graph.rng.normal(0, 1, (4, 1, 3, 3))))
    assert "Conv n3, reason=weights are not -1 and +1" in refusal(rest(graph).save(tmp_path / "m.onnx"))
    graph = Graph(("batch", 1, 12, 12)).larq_sign()
    graph.add("Conv", graph.constant(0.25 * graph.signs(4, 1, 3, 3)))
    assert "scaled" in refusal(rest(graph).save(tmp_path / "m.onnx"))


def test_branches_are_refused(tmp_path: Path) -> None:
    graph = Graph(("batch", 1, 12, 12)).larq_sign().conv(4, 1).larq_sign()
    graph.add("Add", "v6")
    assert "takes something else" in refusal(graph.add("Flatten").dense(400, 3).save(tmp_path / "m.onnx"))


def test_the_runtimes_rounding_is_not_overruled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = channels_first().save(tmp_path / "m.onnx")
    original = verification.verify_thresholds

    def off_by_one(checks: list[object]) -> None:
        checks[1].thresholds[2] += 1  # type: ignore[attr-defined]
        original(checks)  # type: ignore[arg-type]

    monkeypatch.setattr("bnnchain.exchange.onnx_import.verify_thresholds", off_by_one)
    message = refusal(path)
    assert "neuron=2" in message
    assert "rounding" in message


def test_a_wrong_kernel_is_found_out(tmp_path: Path) -> None:
    class Wrong(ReferenceEvaluator):
        def logits(self, model: object, start: int, stop: int) -> np.ndarray:
            scores = super().logits(model, start, stop)  # type: ignore[arg-type]
            scores[7, 0] += 1
            return scores

    with pytest.raises(Invalid, match=r"the source answers otherwise, images=1, of=512"):
        import_onnx(channels_first().save(tmp_path / "m.onnx"), Wrong)


# Hostile files.


def test_external_data_is_never_read(tmp_path: Path) -> None:
    graph = channels_first()
    onnx.external_data_helper.set_external_data(graph.constants[1], "/etc/passwd")
    graph.constants[1].ClearField("raw_data")
    assert "data outside the file" in refusal(graph.save(tmp_path / "m.onnx"))


def test_other_domains_subgraphs_and_functions_are_refused(tmp_path: Path) -> None:
    graph = channels_first()
    graph.nodes[0].domain = "evil.custom"
    opsets = [helper.make_opsetid("", 16), helper.make_opsetid("evil.custom", 1)]
    assert "operator of another domain" in refusal(graph.save(tmp_path / "m.onnx", opsets=opsets))
    graph = channels_first()
    inner = helper.make_graph([], "inner", [], [])
    graph.nodes[0].attribute.append(helper.make_attribute("then_branch", inner))
    assert "an attribute that is a graph" in refusal(graph.save(tmp_path / "m.onnx"))


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = channels_first().save(tmp_path / "m.onnx")
    for name in ("MAX_NODES", "MAX_ELEMENTS", "MAX_CONSTANTS"):
        with monkeypatch.context() as patch:
            patch.setattr(onnx_graph, name, 5)
            assert "too many" in refusal(path)
    monkeypatch.setattr(onnx_graph, "MAX_FILE_BYTES", 100)
    with pytest.raises(Invalid, match="file too large"):
        import_onnx(path, ReferenceEvaluator)
    with pytest.raises(Unavailable, match="No such file"):
        import_onnx(tmp_path / "none.onnx", ReferenceEvaluator)


def test_constants_that_claim_a_giant_side_allocate_nothing(tmp_path: Path) -> None:
    graph = channels_first()
    graph.constants[1].dims[0] = 1 << 40
    assert "too many constants" in refusal(graph.save(tmp_path / "m.onnx"))
    graph = channels_first()
    graph.constants[1].dims[0] = -1
    assert "negative side" in refusal(graph.save(tmp_path / "m.onnx"))


def test_computed_constants_are_bounded_too(tmp_path: Path) -> None:
    graph = channels_first()
    wide, tall = graph.constant(np.ones((1, 1 << 14))), graph.constant(np.ones((1 << 14, 1)))
    graph.nodes.insert(0, helper.make_node("Mul", [wide, tall], ["bomb"], "bomb"))
    assert "too many constants" in refusal(graph.save(tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes", "error"),
    [
        ("Transpose", [], {"perm": [0, 1, 2]}, "ValueError"),
        ("Reshape", ["shape"], {}, "ValueError"),
        ("Add", ["shape"], {}, "ValueError"),
    ],
)
def test_constants_that_do_not_fit_their_node_are_refused(
    kind: str, inputs: list[str], attributes: dict[str, object], error: str, tmp_path: Path
) -> None:
    graph = Graph(("batch", 4, 4, 1))
    weights, shape = graph.constant(graph.signs(16, 3)), graph.constant([5, 5], np.int64)
    names = [weights, *(shape for _ in inputs)]
    graph.nodes.append(helper.make_node(kind, names, ["w"], "odd", **attributes))
    graph.add("Sign").add("Reshape", graph.constant([-1, 16], np.int64)).add("MatMul", "w")
    assert f"{kind} odd" in (said := refusal(graph.save(tmp_path / "m.onnx")))
    assert error in said


@pytest.mark.parametrize("cut", [0, 1, 50, 400])
def test_broken_bytes_are_refused(cut: int, tmp_path: Path) -> None:
    path = channels_first().save(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:cut])
    refusal(path)


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bytes_never_crash(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    path = channels_first(seed=1).save(tmp_path / "m.onnx")
    data = bytearray(path.read_bytes())
    for position in rng.integers(0, len(data), 3):
        data[position] = int(rng.integers(0, 256))
    path.write_bytes(data)
    try:
        import_onnx(path, ReferenceEvaluator)
    except Invalid as error:
        assert error.code in {"bad-import", "bad-architecture"}  # noqa: PT017


def test_inputs_that_are_no_images(tmp_path: Path) -> None:
    graph = Graph(("batch", 16)).larq_sign().dense(16, 3)
    assert "fixed sides" in refusal(graph.save(tmp_path / "m.onnx"))
    graph = Graph(("batch", 1, "h", "w"), kind=FLOAT).larq_sign().conv(4, 1)
    assert "fixed sides" in refusal(rest(graph).save(tmp_path / "m.onnx"))


def test_sizes_are_bounded_before_anything_runs(tmp_path: Path) -> None:
    giant = Graph(("batch", 1, 100_000, 100_000)).larq_sign().conv(4, 1)
    assert "input of 100000x100000x1: sides to 256" in refusal(rest(giant).save(tmp_path / "m.onnx"))
    graph = Graph((1 << 30, 1, 12, 12)).larq_sign().conv(4, 1)
    assert "a fixed batch too large" in refusal(rest(graph).save(tmp_path / "m.onnx"))
    graph = Graph(("batch", 1, 12, 12)).larq_sign().conv(5_000, 1)
    assert "more than 4096 neurons" in refusal(rest(graph).save(tmp_path / "m.onnx"))
    graph = Graph(("batch", 1, 256, 256)).larq_sign().conv(2_000, 1).norm(2_000).larq_sign().conv(4, 2_000).pool()
    graph.norm(4).larq_sign().add("Flatten").dense(126 * 126 * 4, 2)
    assert "too much work" in refusal(graph.save(tmp_path / "m.onnx"))


@pytest.mark.parametrize("name", [b"bnnchain", b"Conv", b"MaxPool"])
def test_a_text_that_is_not_utf8_is_refused(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = zoo_model("cnn-4k")
    data = export_onnx(model, papers(model), None)
    assert name in data
    path.write_bytes(data.replace(name, name[:-1] + b"\xf6", 1))
    refusal(path)
