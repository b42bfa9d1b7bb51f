"""Quantised models: what is kept as integers, with which scales, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from values_models import Model, Outcome, outcome, reference
from values_oracle import run_layer

from spm_opt.errors import InputError
from spm_opt.formats.onnx_reader import read_onnx
from spm_opt.formats.onnx_values import read_values
from spm_opt.graph.normalize import normalize
from spm_opt.graph.values import Quantization

Build = Callable[[Model], object]


def quantised_model() -> Model:
    # onnx's own reference knows these operators from here on
    return Model(1, 3, 8, 8, opset=19)


def kernel(m: Model, *shape: int, scale: float = 0.01) -> str:
    return m.stored(m.integers(*shape), scale)


def by_channel(m: Model, *shape: int, axis: int = 0) -> str:
    scales = m.rng.uniform(0.005, 0.02, shape[axis])
    return m.stored(m.integers(*shape), scales, np.zeros(shape[axis]), axis=axis)


def bias(m: Model, count: int, scale: object) -> str:
    return m.stored(m.integers(count, low=-900, high=900, dtype=np.int32), scale)


def start(m: Model, scale: float = 0.02, zero: int = 3) -> str:
    return m.through("x", scale, zero)


def convolved(m: Model, source: str, channels: int = 4, **attributes: object) -> str:
    inner = 3 if source.startswith("Dequantize") and not attributes.pop("deep", 0) else channels
    return m.node("Conv", source, kernel(m, channels, inner, 3, 3), pads=[1, 1, 1, 1], **attributes)


#: model -> kinds of its layers, tensors that are rounded anew
MODELS: dict[str, tuple[Build, str, int]] = {
    "conv": (lambda m: m.through(convolved(m, start(m)), 0.05, -7), "conv", 1),
    "conv by channel, bias": (lambda m: m.through(m.node(
        "Conv", start(m), by_channel(m, 4, 3, 3, 3), bias(m, 4, 0.02 * 0.01)), 0.04, 5), "conv", 1),
    "float bias": (lambda m: m.through(m.node(
        "Conv", start(m), by_channel(m, 4, 3, 3, 3), m.weight(4)), 0.04, 5), "conv", 1),
    "weights with zero points": (lambda m: m.through(m.node(
        "Conv", start(m), m.stored(m.integers(4, 3, 1, 1), [0.01, 0.02, 0.015, 0.01],
                                   [3, -4, 0, 9])), 0.03), "conv", 1),
    "transposed": (lambda m: m.through(m.node(
        "ConvTranspose", start(m), by_channel(m, 3, 4, 2, 2, axis=1), strides=[2, 2]), 0.04),
        "conv_transpose", 1),
    "relu in the same scale": (lambda m: m.through(m.node(
        "Relu", m.through(convolved(m, start(m)), 0.05, 4)), 0.05, 4), "conv", 1),
    "relu in another scale": (lambda m: m.through(m.node(
        "Relu", m.through(convolved(m, start(m)), 0.05, 4)), 0.03, -128), "conv", 1),
    "relu without rounding": (lambda m: m.through(m.node("Relu", convolved(m, start(m))), 0.03),
        "conv", 1),
    "clip": (lambda m: m.through(m.node(
        "Clip", convolved(m, start(m)), m.const(-0.7), m.const(1.1)), 0.0123, 11), "conv", 1),
    "sigmoid": (lambda m: m.through(m.node(
        "Sigmoid", m.through(convolved(m, start(m)), 0.05, 4)), 1 / 256, -128), "conv", 1),
    "leaky": (lambda m: m.through(m.node(
        "LeakyRelu", convolved(m, start(m)), alpha=0.1), 0.03), "conv", 1),
    "prelu": (lambda m: m.through(m.node(
        "PRelu", convolved(m, start(m)), m.stored(m.integers(4, 1, 1), 0.004)), 0.03), "conv", 1),
    "constant after rounding": (lambda m: m.through(m.node(
        "Add", m.through(convolved(m, start(m)), 0.05),
        m.stored(m.integers(4, 1, 1), 0.02, 5)), 0.05), "conv binary", 2),
    "silu in steps": (lambda m: _silu(m, m.through(convolved(m, start(m)), 0.05)),
        "conv unary binary", 3),
    "factor by channel": (lambda m: m.through(m.node(
        "Mul", m.node("Conv", start(m), kernel(m, 4, 3, 1, 1), bias(m, 4, 0.02 * 0.01)),
        m.const(np.array([0.5, -1.5, 0.0, 3.0]).reshape(4, 1, 1))), 0.02), "conv", 1),
    "batch norm": (lambda m: m.through(m.batch_norm(m.node(
        "Conv", start(m), kernel(m, 4, 3, 1, 1)), 4), 0.03), "conv", 1),
    "batch norm after rounding": (lambda m: m.through(m.node(
        "BatchNormalization", m.through(m.node("Conv", start(m), kernel(m, 4, 3, 1, 1)), 0.02),
        m.stored(m.integers(4, low=20, high=90), 0.02), bias(m, 4, 0.001),
        *(m.stored(m.integers(4, low=20, high=90), scale) for scale in (0.01, 0.005))),
        0.05), "conv batch_norm", 2),
    "matrices": (lambda m: m.through(m.node("MatMul", start(m), m.through(
        m.node("Transpose", start(m), perm=[0, 1, 3, 2]), 0.02, 3)), 0.1), "transpose matmul", 1),
    "linear": (lambda m: m.through(m.node("Gemm", m.node("Flatten", start(m)), kernel(m, 5, 192),
        bias(m, 5, 0.02 * 0.01), transB=1), 0.2, 9), "linear", 1),
    "linear, scalars": (lambda m: m.through(m.node("Gemm", m.node("Flatten", start(m)), by_channel(
        m, 192, 5, axis=1), bias(m, 5, 0.0003), alpha=0.5, beta=2.0), 0.1), "linear", 1),
    "linear, weights transposed": (lambda m: m.through(m.node("MatMul", start(m), m.node(
        "Transpose", by_channel(m, 6, 8))), 0.05), "linear", 1),
    "concat, one scale": (lambda m: m.through(m.node(
        "Concat", m.through(convolved(m, start(m)), 0.05), m.through(convolved(m, start(m)), 0.05),
        axis=1), 0.05), "conv conv concat", 2),
    "concat, two scales": (lambda m: m.through(m.node(
        "Concat", m.through(convolved(m, start(m)), 0.05), m.through(convolved(m, start(m)), 0.02),
        axis=1), 0.05), "conv conv concat", 3),
    "concat with a constant": (lambda m: m.through(m.node(
        "Concat", start(m, 0.03, 0), m.stored(m.integers(1, 2, 8, 8), 0.1), axis=1), 0.03),
        "concat", 1),
    "slice to another scale": (lambda m: m.through(m.node(
        "Slice", start(m), *(m.const(v, np.int64) for v in ([1], [7], [2]))), 0.01), "slice", 1),
    "slice that takes all": (lambda m: m.through(m.node(
        "Slice", start(m), *(m.const(v, np.int64) for v in ([0], [8], [2]))), 0.01), "slice", 1),
    "maximum": (lambda m: m.through(m.node(
        "MaxPool", start(m), kernel_shape=[2, 2]), 0.02, 3), "pool", 0),
    "average": (lambda m: m.through(m.node(
        "AveragePool", start(m), kernel_shape=[3, 3], pads=[1, 1, 1, 1]), 0.01, -3), "pool", 1),
    "global average": (lambda m: m.through(m.node("GlobalAveragePool", start(m)), 0.004), "reduce",
        1),
    "softmax": (lambda m: m.through(m.node("Softmax", start(m)), 1 / 256, -128), "softmax", 1),
    "unrounded view": (lambda m: m.through(m.node("Reshape", m.node(
        "Add", start(m), start(m, 0.03)), m.const([1, -1, 8], np.int64)), 0.05),
        "unary unary binary", 3),
    "pad that rounds": (lambda m: m.through(m.node("Conv", m.through(m.node(
        "Pad", start(m), m.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64)), 0.03), kernel(
        m, 4, 3, 3, 3)), 0.05), "pad conv", 2),
    "pad that does not": (lambda m: m.through(m.node("Conv", m.through(m.node(
        "Pad", start(m), m.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64)), 0.02, 3), kernel(
        m, 4, 3, 3, 3)), 0.05), "conv", 1),
    "unsigned": (lambda m: m.through(m.node("Relu", m.node(
        "Conv", m.through("x", 0.02, 120, np.uint8), kernel(m, 4, 3, 1, 1))), 0.02, 0, np.uint8),
        "conv", 1),
    "weights of reals": (lambda m: m.through(m.node("Conv", start(m), m.weight(4, 3, 1, 1)), 0.05),
        "conv", 1),
}  # fmt: skip


def _silu(m: Model, source: str) -> str:
    gate = m.through(m.node("Sigmoid", source), 1 / 256, -128)
    return m.through(m.node("Mul", source, gate), 0.04)


@pytest.mark.parametrize("name", MODELS)
def test_quantised_operators(name: str, tmp_path: Path) -> None:
    build, kinds, rounded = MODELS[name]
    m = quantised_model()
    build(m)
    result = outcome(m, tmp_path)
    assert result.kinds == kinds.split()
    assert len(result.network.rounded) == rounded
    # a convolution's or product's tie may fall to either side in single precision
    assert result.quanta() <= 1.001
    assert result.difference() > 0 or result.quanta() == 0
    assert normalize(result.network) == result.network
    # most of the range is used: nothing is compared that is saturated or zero throughout
    (final,) = (result.maps[name] for name in result.network.outputs)
    assert len(np.unique(final)) >= 3


def values_of(m: Model, folder: Path) -> Outcome:
    return outcome(m, folder)


def test_stored_integers_serve_where_reals_are_wanted(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnx's reference lacks this opset's operators")
    m = Model(1, 3, 8, 8, opset=13)
    y = m.node("Conv", start(m), kernel(m, 4, 3, 1, 1))
    m.through(m.node("Mul", y, m.stored(m.integers(4, 1, 1), 0.03)), 0.05)
    result = outcome(m, tmp_path)
    assert result.kinds == ["conv"]
    assert result.quanta() <= 1.001


def test_integers_scales_and_bias_are_those_of_the_file(tmp_path: Path) -> None:
    m = quantised_model()
    source = m.through("x", 0.02, 3)
    scales = [0.01, 0.02, 0.03, 0.04]
    w = m.integers(4, 3, 1, 1)
    b = m.integers(4, low=-500, high=500, dtype=np.int32)
    units = [0.02 * scale for scale in scales]
    y = m.node("Conv", source, m.stored(w, scales), m.stored(b, units))
    m.through(y, 0.05, -7)
    result = values_of(m, tmp_path)
    own = result.values.layers["n4"]
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in m.constants}
    assert (own.arrays[0] == stored[w]).all()
    assert (own.arrays[1] == stored[b]).all()
    assert [str(array.dtype) for array in own.arrays] == ["int8", "int32"]
    assert own.weight_scale is not None
    assert own.weight_zero_point is not None
    assert own.weight_scale.tolist() == pytest.approx(scales)
    assert own.weight_zero_point.tolist() == [0] * 4
    assert result.values.tensors["x"] == Quantization(float(np.float32(0.02)), 3)
    assert result.values.tensors[y] == Quantization(float(np.float32(0.05)), -7)


@pytest.mark.parametrize(
    ("function", "scale", "given"),
    [("Relu", 0.05, False), ("Relu", 0.04, True), ("Sigmoid", 0.05, True)],
)
def test_rounding_before_an_activation(
    function: str, scale: float, given: bool, tmp_path: Path
) -> None:
    m = quantised_model()
    m.through(m.node(function, m.through(convolved(m, start(m)), 0.05)), scale)
    (own,) = values_of(m, tmp_path).values.layers.values()
    expected = Quantization(float(np.float32(0.05)), 0) if given else None
    assert own.before_activation == expected


def test_an_activation_that_leaves_the_integers_is_a_layer_of_its_own(tmp_path: Path) -> None:
    m = quantised_model()
    m.node("Sigmoid", m.through(convolved(m, start(m)), 0.05))
    result = values_of(m, tmp_path)
    assert result.kinds == ["conv", "unary"]
    assert [t.dtype for t in result.network.tensors.values()] == ["int8", "int8", "float32"]
    # one quantum of the rounded map, through a slope of at most a quarter
    assert np.abs(result.real(result.network.outputs[0])).max() > 0.1
    assert result.difference() <= 0.05 / 4


def test_a_map_that_others_read_as_it_was_is_rounded_by_a_layer_of_its_own(
    tmp_path: Path,
) -> None:
    m = quantised_model()
    total = m.node("Sigmoid", "x")
    rounded = m.through(total, 0.01)
    m.through(m.node("Add", rounded, m.through(m.node("Tanh", total), 0.02)), 0.02)
    result = values_of(m, tmp_path)
    assert sorted(result.kinds) == ["binary", "unary", "unary", "unary"]
    assert result.network.tensors[total].dtype == "float32"
    casts = [layer for layer in result.network.layers if getattr(layer.op, "mode", "") == "cast"]
    assert [layer.inputs[0].tensor for layer in casts] == [total]
    assert result.network.tensors[casts[0].output].dtype == "int8"
    assert result.quanta() <= 1.001


def test_a_map_of_two_scales_is_requantised(tmp_path: Path) -> None:
    m = quantised_model()
    first = m.through("x", 0.02)
    second = m.through(first, 0.03, 5)
    third = m.through(m.node("Add", first, second), 0.05)
    result = outcome(m, tmp_path, third)
    assert result.kinds == ["unary", "binary"]
    assert result.quanta() == pytest.approx(0.0, abs=1e-3)


def test_integers_that_operators_move_keep_their_scale(tmp_path: Path) -> None:
    m = quantised_model()
    numbers = m.const(0.02), m.const(4, np.int8)
    stored = m.node("QuantizeLinear", "x", *numbers)
    moved = m.node("Transpose", stored, perm=[0, 2, 3, 1])
    moved = m.node("Slice", moved, *(m.const(v, np.int64) for v in ([1], [7], [2])))
    m.node("DequantizeLinear", moved, *numbers)
    result = values_of(m, tmp_path)
    assert result.kinds == ["transpose", "slice"]
    assert result.network.rounded == ()
    assert set(result.values.tensors.values()) == {Quantization(float(np.float32(0.02)), 4)}
    assert result.quanta() == pytest.approx(0.0, abs=1e-3)


def test_prefixes_of_concatenations_are_shared_only_in_one_scale(tmp_path: Path) -> None:
    m = quantised_model()
    a, b, c = (m.through(convolved(m, start(m)), 0.05) for _ in range(3))
    for scale in (0.05, 0.06):
        short = m.through(m.node("Concat", a, b, axis=1), scale)
        long = m.through(m.node("Concat", a, b, c, axis=1), scale)
        total = m.node("Concat", short, long, axis=1)
        result = outcome(m, tmp_path, m.through(total, scale))
        joined = [layer for layer in result.network.layers if layer.op.kind == "concat"]
        inputs = [len(layer.inputs) for layer in joined]
        assert inputs[-3:] == ([2, 2, 2] if scale == 0.05 else [2, 3, 2])
        assert result.quanta() <= 1.001


REFUSED: dict[str, tuple[Build, str]] = {
    "scales by row": (
        lambda m: m.through(m.node("MatMul", start(m), by_channel(m, 8, 6, axis=0)), 0.05),
        "n3: scales of weights must be those of output channels",
    ),
    "weights alone": (
        lambda m: m.node("Conv", "x", kernel(m, 4, 3, 1, 1)),
        "its weights are integers, but its input is not",
    ),
    "another scale on the way back": (
        lambda m: m.node("DequantizeLinear", m.node("QuantizeLinear", "x", m.const(0.1),
                                                    m.const(0, np.int8)),
                         m.const(0.2), m.const(0, np.int8)),
        "x: this tensor is dequantised with another scale",
    ),
    "scales of a map by channel": (
        lambda m: m.node("Relu", m.node(
            "DequantizeLinear",
            m.node("QuantizeLinear", "x", *(c := (m.const([0.1, 0.2, 0.3]),
                                                  m.const([0, 0, 0], np.int8))), axis=1),
            *c, axis=1)),
        "x: a feature map with several scales",
    ),
    "another form": (
        lambda m: m.node("DequantizeLinear", m.node("QLinearConv", m.node(
            "QuantizeLinear", "x", *(c := (m.const(0.1), m.const(0, np.int8)))), *c,
            m.integers(4, 3, 1, 1), *c, *c), *c),
        "integers in this form are not supported; found 'QLinearConv'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_computed_is_refused(name: str, tmp_path: Path) -> None:
    build, message = REFUSED[name]
    m = quantised_model()
    build(m)
    path = m.save(tmp_path)
    network = read_onnx(path)
    with pytest.raises(InputError, match=rf"model\.onnx: .*{message}"):
        read_values(path, network)


# --- as onnxruntime quantises ------------------------------------------------------------------


def residual_network(m: Model) -> str:
    """Depthwise, residual addition, relu6, pools of both kinds, concatenation, linear."""

    def conv(source: str, inner: int, outer: int, size: int, groups: int = 1) -> str:
        weight = m.const(m.rng.standard_normal((outer, inner // groups, size, size))
                         / np.sqrt(inner // groups * size * size))  # fmt: skip
        return m.node("Conv", source, weight, m.weight(outer), pads=[size // 2] * 4, group=groups)

    def relu6(source: str) -> str:
        return m.node("Clip", source, zero, six)

    zero, six = m.const(0.0), m.const(6.0)
    stem = m.node("Relu", conv("x", 3, 8, 3))
    deep = relu6(conv(relu6(conv(stem, 8, 16, 1)), 16, 16, 3, 16))
    total = m.node("Add", conv(deep, 16, 8, 1), stem)
    pools = [
        m.node(kind, total, kernel_shape=[2, 2], strides=[2, 2])
        for kind in ("MaxPool", "AveragePool")
    ]
    gate = conv(pools[0], 8, 8, 1)
    gate = m.node("Mul", gate, m.node("Sigmoid", gate))
    joined = m.node("Concat", *pools, gate, axis=1)
    flat = m.node("Flatten", m.node("GlobalAveragePool", m.node("LeakyRelu", joined, alpha=0.2)))
    return m.node("Gemm", flat, m.weight(10, 24), m.weight(10), transB=1)


def quantised(
    path: Path, folder: Path, name: str, shape: tuple[int, ...], kind: str, channels: bool,
    rounds: bool = False,
) -> Path:  # fmt: skip
    """The model of a file, quantised by onnxruntime on drawn inputs."""
    import onnxruntime.quantization as quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            rng = np.random.default_rng(3)
            draws = (rng.standard_normal(shape).astype(np.float32) for _ in range(4))
            self.rest = iter([{name: draw} for draw in draws])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rest, None)

    target = folder / "quantised.onnx"
    quantization.quantize_static(
        path, target, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=channels,
        activation_type=quantization.QuantType[kind], weight_type=quantization.QuantType.QInt8,
        extra_options={"AddQDQPairToWeight": rounds},
    )  # fmt: skip
    return target


@pytest.mark.parametrize("kind", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("channels", [False, True], ids=["per tensor", "per channel"])
@pytest.mark.parametrize("rounds", [False, True], ids=["integer weights", "float weights"])
def test_static_quantisation(kind: str, channels: bool, rounds: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime.quantization")
    m = Model(1, 3, 16, 16, opset=13)
    path = tmp_path / "model.onnx"
    model = m_with_output(m, residual_network(m))
    onnx.save(model, path)

    target = quantised(path, tmp_path, "x", (1, 3, 16, 16), kind, channels, rounds)
    result = Outcome(target)
    assert {str(t.dtype) for t in result.network.tensors.values()} == {kind[1:].lower()}
    assert "opaque" not in result.kinds
    assert result.kinds.count("concat") == 1
    # every layer but the pool of maxima rounds to a scale of its own
    names = {layer.output for layer in result.network.layers if layer.op.kind != "pool"}
    assert names <= set(result.network.rounded)
    assert result.quanta() <= 1.001
    assert len(np.unique(result.maps[result.network.outputs[0]])) > 5


def m_with_output(m: Model, name: str) -> onnx.ModelProto:
    model = m.proto(name)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, 1, [1, 10]))
    return model


DEEP = [("mobilenetv2_100", "input.1", (1, 3, 224, 224)), ("ae_toycar", "onnx::Gemm_0", (1, 640)),
        ("squeezenet1_1", "input.1", (1, 3, 224, 224))]  # fmt: skip


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["QInt8", "QUInt8"])
@pytest.mark.parametrize(("name", "source", "shape"), DEEP, ids=[row[0] for row in DEEP])
def test_every_layer_of_a_deep_network(
    name: str, source: str, shape: tuple[int, ...], kind: str, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime.quantization")
    path = Path(__file__).resolve().parent.parent.parent / "shared" / "onnx" / f"{name}.onnx"
    if not path.exists():
        pytest.skip("the shared ONNX files are not here")
    target = quantised(path, tmp_path, source, shape, kind, True)
    network = read_onnx(target)
    values = read_values(target, network)
    model = onnx.load(target)
    rounded = {n.input[0]: n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    del model.graph.output[:]
    model.graph.output.extend(map(helper.make_empty_tensor_value_info, rounded.values()))
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    found = dict(zip(rounded, reference(model, {source: x}), strict=True))
    theirs = {t: found[t].reshape(network.tensors[t].shape) for t in network.tensors}
    for layer in network.layers:
        # each on what onnxruntime computed before: nothing adds up
        ours = run_layer(network, values, layer, theirs).astype(int)
        gap = np.abs(ours - theirs[layer.output])
        # it multiplies by scales in single precision, so a tie may fall to the other side
        assert gap.max() <= 1, layer.name
        assert (gap > 0).mean() <= 1e-3, layer.name
