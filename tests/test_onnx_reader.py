"""Reading ONNX: whole files, the forms that exporters write, and what goes wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from spm_opt.errors import GraphError, InputError
from spm_opt.formats.network_json import network_from_dict, network_to_dict
from spm_opt.formats.onnx_reader import read_onnx
from spm_opt.graph.network import Network
from spm_opt.graph.ops import (
    Binary,
    Concat,
    Conv,
    Gather,
    Linear,
    MatMul,
    Normalize,
    Opaque,
    Softmax,
    Transpose,
    Unary,
)

REPO = Path(__file__).resolve().parent.parent
SHARED = REPO.parent / "shared" / "onnx"

# --- models of the shared directory ------------------------------------------------------------

#: file, GMACs, millions of parameters, layers, operator kinds
FILES = [
    ("alexnet", "graphs", 0.7142, 61.10, 11, "conv linear pool"),
    ("densenet121", "graphs", 2.83, 7.98, 246, "batch_norm concat conv linear pool reduce"),
    ("efficientnet_b0", "graphs", 0.386, 5.29, 124, "binary conv linear reduce"),
    ("inception_v3", "graphs", 5.71, 23.8, 120, "concat conv linear pool reduce"),
    ("resnet18", "graphs", 1.81, 11.7, 31, "binary conv linear pool reduce"),
    ("resnet50", "graphs", 4.09, 25.6, 72, "binary conv linear pool reduce"),
    ("vgg16", "graphs", 15.47, 138.4, 21, "conv linear pool"),
    ("vit_small_p16", "graphs", 4.6, 22.1, 235,
     "binary concat conv linear matmul normalize slice softmax transpose"),
    ("bert_small", "graphs", 0.436, 11.04, 76,
     "binary gather linear matmul normalize softmax transpose"),
    ("mobilenetv2_100", "", 0.301, 3.50, 64, "binary conv linear reduce"),
    ("squeezenet1_1", "", 0.349, 1.24, 38, "concat conv pool reduce"),
    ("ae_toycar", "", 0.000264, 0.266, 10, "linear"),
    ("dscnn_kws", "", 0.002657, 0.0226, 11, "conv linear reduce"),
    ("unet_256", "", 3.0335, 1.94, 31, "concat conv conv_transpose pool"),
]  # fmt: skip


@pytest.mark.parametrize("row", FILES, ids=lambda row: row[0])
def test_file_is_read_as_the_network_that_it_is(row: tuple[Any, ...]) -> None:
    name, folder, gmacs, params, layers, kinds = row
    path = SHARED / folder / f"{name}.onnx"
    if not path.exists():
        pytest.skip("the shared ONNX files are not here")
    network = read_onnx(path)
    assert network.macs / 1e9 == pytest.approx(gmacs, rel=0.01)
    assert network.parameters / 1e6 == pytest.approx(params, rel=0.01)
    assert len(network.layers) == layers
    assert sorted({layer.op.kind for layer in network.layers}) == kinds.split()
    assert network.warnings == ()
    assert {tensor.dtype for tensor in network.tensors.values()} <= {"float32", "int64"}
    assert network_from_dict(json.loads(json.dumps(network_to_dict(network)))) == network
    # constants keep the names of their initialisers
    model = onnx.load(path, load_external_data=False)
    stored = {tensor.name for tensor in model.graph.initializer}
    convs = [layer for layer in network.layers if isinstance(layer.op, (Conv, Linear))]
    assert all(layer.weights[0].name in stored for layer in convs)
    written = {out for node in model.graph.node for out in node.output}
    assert set(network.outputs) <= written


def test_every_shared_file_is_in_the_table() -> None:
    if not SHARED.exists():
        pytest.skip("the shared ONNX files are not here")
    assert {path.stem for path in SHARED.rglob("*.onnx")} == {row[0] for row in FILES}


@pytest.mark.parametrize("name", ["resnet18", "vit_small_p16", "bert_small"])
def test_batch_replaces_the_literal_one_of_a_file(name: str) -> None:
    path = SHARED / "graphs" / f"{name}.onnx"
    if not path.exists():
        pytest.skip("the shared ONNX files are not here")
    one, three = read_onnx(path), read_onnx(path, batch=3)
    assert three.macs == 3 * one.macs
    assert three.parameters == one.parameters
    assert [type(a.op) for a in three.layers] == [type(b.op) for b in one.layers]
    assert all(three.tensors[n].size_bytes == 3 * one.tensors[n].size_bytes for n in one.outputs)


# --- models built here -------------------------------------------------------------------------


class Model:
    """A small ONNX model under construction; the result of the last node is its output."""

    def __init__(self, *shape: int | str | None, opset: int = 17, elem: int = 1) -> None:
        self.opset = opset
        self.inputs = [helper.make_tensor_value_info("x", elem, shape)]
        self.outputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.domains = ["custom"]

    def const(self, name: str, value: object, dtype: object = np.int64) -> str:
        self.constants.append(numpy_helper.from_array(np.array(value, dtype=dtype), name))  # type: ignore[arg-type]
        return name

    def weight(self, name: str, *shape: int, dtype: object = np.float32) -> str:
        return self.const(name, np.ones(shape), dtype)

    def absent(self, name: str, *shape: int) -> str:
        """Weight in a data file that is not there."""
        tensor = TensorProto(name=name, dims=shape, data_type=1)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
        self.constants.append(tensor)
        return name

    def node(self, kind: str, *inputs: str, out: str | Sequence[str] = "", **kw: Any) -> str:
        outputs = [out or f"{kind.lower()}{len(self.nodes)}"] if isinstance(out, str) else out
        domain = kw.pop("domain", None)
        self.nodes.append(
            helper.make_node(kind, inputs, outputs, f"n_{outputs[0]}", domain=domain, **kw)
        )
        return outputs[0]

    def write(self, folder: Path, *outputs: str) -> Path:
        names = outputs or (self.nodes[-1].output[0],)
        self.outputs = self.outputs or [
            helper.make_tensor_value_info(name, 1, None) for name in names
        ]
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.constants)
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(domain, 1) for domain in self.domains]
        model = helper.make_model(graph, opset_imports=imports, functions=self.functions)
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    def read(self, folder: Path, *outputs: str, **kw: Any) -> Network:
        return read_onnx(self.write(folder, *outputs), **kw)


def kinds(network: Network) -> list[str]:
    return [layer.op.kind for layer in network.layers]


def ops(network: Network) -> list[object]:
    return [layer.op for layer in network.layers]


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_the_same_network_in_every_opset(tmp_path: Path, opset: int) -> None:
    m = Model(1, 3, 8, 8, opset=opset)
    y = m.node("Conv", "x", m.weight("w", 4, 3, 3, 3), pads=[1, 1, 1, 1], out="conv")
    bn = [m.weight(name, 4) for name in ("g", "b", "mean", "var")]
    y = m.node("BatchNormalization", y, *bn)
    y = m.node("Clip", y, m.const("low", 0, np.float32), m.const("high", 6, np.float32))
    axes: dict[str, Any] = {"axes": [2, 3]} if opset < 18 else {}
    extra = [] if axes else [m.const("axes", [2, 3])]
    y = m.node("ReduceMean", y, *extra, keepdims=1, **axes)
    axes = {"axes": [2, 3]} if opset < 13 else {}
    extra = [] if axes else [m.const("axes2", [2, 3])]
    y = m.node("Squeeze", y, *extra, **axes)
    y = m.node("Gemm", y, m.weight("fc", 10, 4), m.weight("fcb", 10), transB=1)
    m.node("Softmax", y, axis=1, out="y")
    network = m.read(tmp_path)
    assert kinds(network) == ["conv", "reduce", "linear", "softmax"]
    conv, _, fc, _ = network.layers
    assert conv.op == Conv(
        4, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), bias=True, activation="relu6"
    )  # fmt: skip
    assert (conv.name, conv.weights[0].name) == ("n_conv", "w")
    assert fc.op == Linear(10, bias=True)
    assert network.outputs == ("y",)
    assert network.macs == 4 * 3 * 9 * 64 + 40


def test_quantised_model_is_planned_in_its_integers(tmp_path: Path) -> None:
    m = Model(1, 3, 8, 8)
    scale, zero = m.const("s", 0.1, np.float32), m.const("z", 0, np.int8)

    def through(source: str) -> str:
        q = m.node("QuantizeLinear", source, scale, zero)
        return m.node("DequantizeLinear", q, scale, zero)

    channels = m.const("sc", np.ones(4), np.float32), m.const("zc", np.zeros(4), np.int8)
    w = m.node("DequantizeLinear", m.weight("wq", 4, 3, 3, 3, dtype=np.int8), *channels, axis=0)
    zeros = m.const("zb", np.zeros(4), np.int32)
    b = m.node("DequantizeLinear", m.weight("bq", 4, dtype=np.int32), channels[0], zeros, axis=0)
    conv = m.node("Conv", through("x"), w, b, pads=[1, 1, 1, 1])
    relu = through(m.node("Relu", conv, out="relu"))
    total = m.node("Add", relu, through("x_side"), out="total")
    m.inputs.append(helper.make_tensor_value_info("x_side", 1, (1, 4, 8, 8)))
    through(total)
    network = m.read(tmp_path)
    assert kinds(network) == ["conv", "binary"]
    assert {t.name: t.dtype for t in network.tensors.values()} == dict.fromkeys(
        ("x", "x_side", "relu", "total"), "int8"
    )
    assert [(w.name, w.dtype, w.role) for w in network.layers[0].weights] == [
        ("wq", "int8", "weight"),
        ("bq", "int32", "bias"),
    ]
    assert network.parameters == 4 * 27 + 4
    assert network.outputs == ("total",)


def test_float_part_of_a_quantised_model_stays_float(tmp_path: Path) -> None:
    m = Model(2, 8)
    scale, zero = m.const("s", 0.1, np.float32), m.const("z", 0, np.uint8)
    q = m.node("QuantizeLinear", "x", scale, zero)
    d = m.node("DequantizeLinear", q, scale, zero)
    m.node("Softmax", d, out="soft")
    network = m.read(tmp_path)
    assert {n: t.dtype for n, t in network.tensors.items()} == {"x": "uint8", "soft": "float32"}


def test_qlinear_operators(tmp_path: Path) -> None:
    m = Model(1, 3, 8, 8, elem=2)
    s, z = m.const("s", 0.1, np.float32), m.const("z", 0, np.uint8)
    w, b = m.weight("w", 4, 3, 1, 1, dtype=np.uint8), m.weight("b", 4, dtype=np.int32)
    y = m.node("QLinearConv", "x", s, z, w, s, z, s, z, b)
    y = m.node("Reshape", y, m.const("shape", [1, 4, 64]))
    m.node("QLinearMatMul", y, s, z, m.weight("v", 64, 5, dtype=np.uint8), s, z, s, z)
    network = m.read(tmp_path)
    conv, linear = network.layers
    assert conv.op == Conv(4, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), bias=True)
    assert [w.dtype for w in conv.weights] == ["uint8", "int32"]
    assert linear.op == Linear(5)
    assert {t.dtype for t in network.tensors.values()} == {"uint8"}


def test_dynamically_quantised_product(tmp_path: Path) -> None:
    m = Model(2, 8)
    m.node("DynamicQuantizeLinear", "x", out=["q", "qs", "qz"])
    w, z = m.weight("w", 8, 5, dtype=np.int8), m.const("z", 0, np.int8)
    y = m.node("MatMulInteger", "q", w, "qz", z)
    y = m.node("Cast", y, to=1)
    scale = m.node("Mul", "qs", m.const("ws", 0.5, np.float32))
    y = m.node("Mul", y, scale)
    m.node("Add", y, m.weight("b", 5))
    (layer,) = m.read(tmp_path).layers
    assert layer.op == Linear(5, bias=True)
    assert [w.dtype for w in layer.weights] == ["int8", "int32"]


# --- batch and other dimensions ---


def symbolic(batch: str | None = "N") -> Model:
    m = Model(batch, 3, 8, 8)
    y = m.node("Conv", "x", m.weight("w", 4, 3, 3, 3))
    shape = m.node("Shape", y)
    first = m.node("Gather", shape, m.const("zero", 0), axis=0)
    first = m.node("Unsqueeze", first, m.const("axes", [0]))
    shape = m.node("Concat", first, m.const("rest", [-1]), axis=0)
    y = m.node("Reshape", y, shape)
    m.node("MatMul", y, m.weight("v", 144, 10))
    return m


@pytest.mark.parametrize("name", ["N", None])
@pytest.mark.parametrize("batch", [1, 4])
def test_symbolic_batch_and_a_chain_that_computes_a_shape(
    tmp_path: Path, batch: int, name: str | None
) -> None:
    network = symbolic(name).read(tmp_path, batch=batch)
    assert kinds(network) == ["conv", "linear"]
    assert network.layers[1].inputs[0].shape == (batch, 144)
    assert network.macs == batch * (36 * 4 * 27 + 1440)
    assert network.parameters == 4 * 27 + 1440


def test_a_dimension_by_name(tmp_path: Path) -> None:
    m = Model("batch", "seq", 8)
    m.node("MatMul", "x", m.weight("w", 8, 5))
    network = m.read(tmp_path, batch=2, dims={"seq": 7})
    assert network.tensors["x"].shape == (2, 7, 8)
    assert m.read(tmp_path, dims={"seq": 7, "batch": 3}).tensors["x"].shape == (3, 7, 8)


def test_a_batch_that_is_not_the_first_dimension(tmp_path: Path) -> None:
    m = Model("seq", "batch", 8)
    m.node("MatMul", "x", m.weight("w", 8, 5))
    assert m.read(tmp_path, batch=2, dims={"seq": 7}).tensors["x"].shape == (7, 2, 8)


@pytest.mark.parametrize("target", [[1, -1], [1, 192]])
def test_a_literal_batch_in_a_reshape_follows(tmp_path: Path, target: list[int]) -> None:
    m = Model(1, 3, 8, 8)
    m.node("MatMul", m.node("Reshape", "x", m.const("s", target)), m.weight("w", 192, 5))
    assert m.read(tmp_path, batch=4).layers[0].output_shape == (4, 5)


# --- constants ---


def test_absent_weights_suffice(tmp_path: Path) -> None:
    m = Model(1, 3, 8, 8)
    y = m.node("Conv", "x", m.node("Identity", m.absent("w", 64, 3, 3, 3)), m.absent("b", 64))
    y = m.node("Flatten", m.node("GlobalAveragePool", y))
    m.node("MatMul", y, m.node("Transpose", m.absent("fc", 1000, 64), perm=[1, 0]))
    network = m.read(tmp_path)
    assert [w.name for layer in network.layers for w in layer.weights] == ["w", "b", "fc"]
    assert network.layers[-1].weights[0].shape == (1000, 64)
    assert network.macs == 36 * 64 * 27 + 64000


def test_initialisers_may_be_graph_inputs_too(tmp_path: Path) -> None:
    m = Model(1, 3, 8, 8)
    m.node("Conv", "x", m.weight("w", 4, 3, 1, 1))
    m.inputs.append(helper.make_tensor_value_info("w", 1, (4, 3, 1, 1)))
    assert m.read(tmp_path).inputs == ("x",)


def test_constants_never_become_layers(tmp_path: Path) -> None:
    m = Model(1, 4, 6)
    shape = m.const("shape", [4, 1])
    value = numpy_helper.from_array(np.array([2.0], np.float32))
    filled = m.node("ConstantOfShape", shape, value=value)
    tripled = m.node("Mul", filled, m.node("Constant", value_float=3.0))
    positions = m.node("Range", *(m.const(f"r{i}", v) for i, v in enumerate((0, 6, 1))))
    masked = m.node("Where", m.node("Equal", positions, m.const("two", 2)), tripled, filled)
    m.node("Add", "x", masked)
    (layer,) = m.read(tmp_path).layers
    assert layer.op == Binary("add", constant_shape=(4, 6))
    assert [w.elements for w in layer.weights] == [24]


def test_constant_scaling_of_a_large_weight_keeps_its_name(tmp_path: Path) -> None:
    m = Model(1, 300)
    w = m.node("Mul", m.weight("w", 300, 300), m.const("half", 0.5, np.float32))
    m.node("MatMul", "x", m.node("Cast", w, to=10))
    (layer,) = m.read(tmp_path).layers
    assert (layer.weights[0].name, layer.weights[0].dtype) == ("w", "float16")


def test_branch_of_a_known_condition_is_taken(tmp_path: Path) -> None:
    m = Model(1, 4, 6)
    empty = helper.make_tensor_value_info
    yes = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["a"])], "yes", [], [empty("a", 1, None)]
    )
    no = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["b"])], "no", [], [empty("b", 7, None)]
    )
    rank = m.node("Size", m.node("Shape", "x"))
    m.node("If", m.node("Equal", rank, m.const("three", 3)), then_branch=yes, else_branch=no)
    network = m.read(tmp_path)
    assert ops(network) == [Unary("relu")]
    assert network.aliases == {"if3": "a"}


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    m = Model(1, 4)
    body = [helper.make_node("MatMul", ["a", "b"], ["ab"]), helper.make_node("Relu", ["ab"], ["y"])]
    imports = [helper.make_opsetid("", 17)]
    m.functions = [helper.make_function("custom", "Dense", ["a", "b"], ["y"], body, imports)]
    m.node("Dense", "x", m.weight("w", 4, 5), domain="custom")
    assert ops(m.read(tmp_path)) == [Linear(5, activation="relu")]


# --- structure ---


def test_attention_block(tmp_path: Path) -> None:
    """Queries, keys and values from one product; reshape, transpose, split into heads."""
    m = Model("batch", 16, 32)
    y = m.node("LayerNormalization", "x", m.weight("g", 32), m.weight("b", 32), axis=-1)
    y = m.node("Add", m.node("MatMul", y, m.weight("qkv", 32, 96)), m.weight("qkv_b", 96))
    shape = m.node("Concat", m.node("Shape", "x", end=1), m.const("heads", [16, 3, 4, 8]), axis=0)
    y = m.node("Transpose", m.node("Reshape", y, shape), perm=[2, 0, 3, 1, 4])
    m.node("Split", y, out=["q", "k", "v"], axis=0)
    q, k, v = (m.node("Squeeze", name, m.const(f"a_{name}", [0])) for name in "qkv")
    scores = m.node("MatMul", q, m.node("Transpose", k, perm=[0, 1, 3, 2]))
    scores = m.node("Div", scores, m.node("Sqrt", m.const("width", 8.0, np.float32)))
    y = m.node("MatMul", m.node("Softmax", scores, axis=-1), v)
    y = m.node("Reshape", m.node("Transpose", y, perm=[0, 2, 1, 3]), m.const("m", [0, 0, 32]))
    y = m.node("Add", m.node("MatMul", y, m.weight("o", 32, 32)), m.weight("o_b", 32))
    m.node("Add", "x", y)
    network = m.read(tmp_path, batch=2)
    assert Counter(kinds(network)) == {
        "normalize": 1, "linear": 2, "transpose": 3, "slice": 3, "matmul": 2, "binary": 2,
        "softmax": 1,
    }  # fmt: skip
    assert network.macs == 2 * (16 * 32 * 128 + 2 * 4 * 16 * 16 * 8)
    scores_layer = next(layer for layer in network.layers if isinstance(layer.op, MatMul))
    assert scores_layer.input_shapes == ((2, 4, 16, 8), (2, 4, 8, 16))


def test_spelled_out_layer_norm_and_gelu(tmp_path: Path) -> None:
    m = Model(2, 5, 6)
    one, two, eps = (m.const(n, v, np.float32) for n, v in (("1", 1), ("2", 2), ("e", 1e-5)))
    d = m.node("Sub", "x", m.node("ReduceMean", "x", axes=[-1]))
    var = m.node("ReduceMean", m.node("Pow", d, two), axes=[-1])
    y = m.node("Div", d, m.node("Sqrt", m.node("Add", var, eps)))
    y = m.node("Add", m.node("Mul", y, m.weight("g", 6)), m.weight("b", 6))
    h = m.node("Add", m.node("MatMul", y, m.weight("w", 6, 8)), m.weight("wb", 8))
    e = m.node("Erf", m.node("Div", h, m.const("r", 2**0.5, np.float32)))
    y = m.node("Mul", m.node("Mul", h, m.node("Add", e, one)), m.const("h", 0.5, np.float32))
    m.node("MatMul", y, m.weight("v", 8, 6))
    assert ops(m.read(tmp_path)) == [
        Normalize("layer", (2,), affine=True),
        Linear(8, bias=True, activation="gelu"),
        Linear(6),
    ]


def test_split_makes_one_slice_per_output_that_is_read(tmp_path: Path) -> None:
    m = Model(1, 10, 4)
    m.node("Split", "x", m.const("s", [2, 5, 3]), out=["a", "unread", "c"], axis=1)
    m.node("Add", m.node("ReduceMax", "a", axes=[1]), m.node("ReduceMax", "c", axes=[1]))
    slices = [layer for layer in m.read(tmp_path).layers if layer.op.kind == "slice"]
    assert [(s.output, s.output_shape) for s in slices] == [("a", (1, 2, 4)), ("c", (1, 3, 4))]
    assert slices[1].input_rows(0).needed(0, 3, 10) == (7, 10)


def test_uneven_split_of_opset_18(tmp_path: Path) -> None:
    m = Model(1, 10, 4, opset=18)
    m.node("Split", "x", out=["a", "b", "c"], axis=1, num_outputs=3)
    network = m.read(tmp_path, "a", "b", "c")
    assert [layer.output_shape[1] for layer in network.layers] == [4, 4, 2]


def test_class_token_is_a_constant_piece(tmp_path: Path) -> None:
    m = Model("N", 4, 8)
    token = m.node("Expand", m.weight("cls", 1, 1, 8), m.node("Concat", m.node("Shape", "x", end=1),
                   m.const("r", [1, 8]), axis=0))  # fmt: skip
    m.node("Concat", token, "x", axis=1)
    (layer,) = m.read(tmp_path, batch=2).layers
    assert layer.op == Concat(1, ((0, (2, 1, 8)),))
    assert layer.output_shape == (2, 5, 8)
    assert layer.input_rows(0).needed(0, 3, 4) == (0, 2)


def test_embedding_is_read_where_it_is_looked_up(tmp_path: Path) -> None:
    m = Model(1, 6, elem=7)
    m.node("Gather", m.absent("table", 30000, 64), "x")
    (layer,) = m.read(tmp_path).layers
    assert layer.op == Gather(0, table_shape=(30000, 64))
    assert layer.weights[0].role == "table"
    assert layer.weight_bytes == 6 * 64 * 4


def test_constant_matrix_from_the_left_keeps_its_macs(tmp_path: Path) -> None:
    m = Model(2, 8, 5)
    m.node("MatMul", m.weight("mix", 3, 8), "x")
    network = m.read(tmp_path)
    assert network.macs == 2 * 3 * 8 * 5
    assert network.tensors[network.outputs[0]].size_bytes == 2 * 3 * 5 * 4


def test_transpose_of_unit_axes_is_a_view(tmp_path: Path) -> None:
    m = Model(1, 1, 6, 4)
    y = m.node("Transpose", "x", perm=[0, 2, 1, 3])
    m.node("Softmax", m.node("Transpose", y, perm=[0, 2, 3, 1]))
    assert ops(m.read(tmp_path)) == [Transpose((0, 2, 3, 1)), Softmax(3)]


def test_directed_constants(tmp_path: Path) -> None:
    m = Model(2, 8)
    y = m.node("Sub", m.const("one", 1, np.float32), "x")
    y = m.node("Softmax", m.node("Div", m.const("three", 3, np.float32), y))
    m.node("Div", m.const("i", 1, np.float32), y)
    assert ops(m.read(tmp_path)) == [
        Binary("rsub", constant_shape=()),
        Binary("rdiv", constant_shape=()),
        Softmax(1),
        Unary("reciprocal"),
    ]


def test_nodes_in_any_order_and_without_names(tmp_path: Path) -> None:
    m = Model(1, 4)
    y = m.node("MatMul", "x", m.weight("w", 4, 4))
    m.node("Relu", m.node("MatMul", y, "w"), out="y")
    for node in m.nodes:
        node.name = ""
    m.nodes.reverse()
    network = m.read(tmp_path, "y")
    assert kinds(network) == ["linear", "linear"]
    assert len({layer.name for layer in network.layers}) == 2


def test_two_nodes_of_one_name(tmp_path: Path) -> None:
    m = Model(1, 4)
    m.node("Softmax", m.node("Softmax", "x"))
    m.nodes[0].name = m.nodes[1].name = "same"
    assert [layer.name for layer in m.read(tmp_path).layers] == ["same", "same#2"]


# --- opaque operators ---


def test_unknown_operator_runs_whole_with_a_warning(tmp_path: Path) -> None:
    m = Model(1, 10, 4)
    m.node("TopK", "x", m.const("k", [3]), out=["values", "indices"], axis=1)
    network = m.read(tmp_path, "values", "indices")
    assert ops(network) == [Opaque("TopK", (1, 3, 4)), Opaque("TopK", (1, 3, 4))]
    assert network.tensors["indices"].dtype == "int64"
    (warning,) = network.warnings
    assert "'n_values' of type TopK" in warning


def test_recurrence_keeps_its_weights(tmp_path: Path) -> None:
    m = Model(7, 1, 4)
    w, r = m.weight("w", 1, 20, 4), m.weight("r", 1, 20, 5)
    m.node("LSTM", "x", w, r, out=["all", "last"], hidden_size=5)
    network = m.read(tmp_path, "last")
    assert ops(network) == [Opaque("LSTM", (1, 1, 5))]
    assert network.parameters == 20 * 9


def test_operator_of_another_domain_has_the_shape_that_the_file_declares(tmp_path: Path) -> None:
    m = Model("N", 4)
    m.node("Magic", "x", domain="custom", out="y")
    m.outputs = [helper.make_tensor_value_info("y", 1, ("N", 7))]
    assert ops(m.read(tmp_path, batch=2)) == [Opaque("Magic", (2, 7))]


# --- errors ---


def fails(path: Path, **kw: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_onnx(path, **kw)
    assert str(path) in str(caught.value)
    return str(caught.value)


def outcome(path: Path) -> str:
    try:
        read_onnx(path, batch=1)
    except InputError as error:
        return str(error)
    return f"{path} was read"


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in fails(tmp_path / "none.onnx")


def test_unreadable_file(tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in fails(tmp_path)


@pytest.mark.parametrize("content", [b"garbage" * 50, bytes(range(256)) * 4, b"\xff" * 64])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert "this is no ONNX model" in fails(path)


def test_empty_file_has_no_nodes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    assert "the model has no nodes" in fails(path)


def test_no_nodes(tmp_path: Path) -> None:
    m = Model(1, 4)
    assert "the model has no nodes" in fails(m.write(tmp_path, "x"))


def test_every_truncation_is_one_clear_error(tmp_path: Path) -> None:
    m = symbolic()
    m.domains = []
    path = m.write(tmp_path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        fails(path, batch=1)


def test_corrupted_bytes_never_end_in_a_traceback(tmp_path: Path) -> None:
    path = symbolic().write(tmp_path)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(content)
        changed[random.integers(len(content))] = random.integers(256)
        path.write_bytes(bytes(changed))
        assert str(path) in outcome(path)


def test_unset_batch(tmp_path: Path) -> None:
    message = fails(symbolic().write(tmp_path))
    assert "x: dimension 0 of this input is symbolic ('N') and not set" in message
    assert "--batch N" in message


def test_unset_dimension(tmp_path: Path) -> None:
    m = Model("batch", "seq", 8)
    m.node("Relu", "x")
    message = fails(m.write(tmp_path), batch=1)
    assert "dimension 1 of this input is symbolic ('seq')" in message
    assert "--dim seq=N" in message


def test_a_dimension_that_does_not_exist(tmp_path: Path) -> None:
    message = fails(symbolic().write(tmp_path), batch=1, dims={"M": 3})
    assert "M: no input has this symbolic dimension; allowed: N" in message


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_that_is_not_positive(tmp_path: Path, batch: int) -> None:
    assert f"batch: must be positive; found {batch}" in fails(
        symbolic().write(tmp_path), batch=batch
    )


def test_a_batch_that_is_fixed(tmp_path: Path) -> None:
    m = Model(8, 4)
    m.node("Relu", "x")
    path = m.write(tmp_path)
    assert "batch: the model's batch is fixed; found 2; allowed: 8" in fails(path, batch=2)
    assert read_onnx(path, batch=8).tensors["x"].shape == (8, 4)


@pytest.mark.parametrize("opset", [1, 6, 99])
def test_unsupported_opset(tmp_path: Path, opset: int) -> None:
    m = Model(1, 4, opset=opset)
    m.node("Relu", "x")
    assert f"opset_import: unsupported opset; found {opset}" in fails(m.write(tmp_path))


def test_shape_that_depends_on_data(tmp_path: Path) -> None:
    m = Model(1, 4)
    m.node("NonZero", "x", out="where")
    message = fails(m.write(tmp_path))
    assert "node 'n_where' (NonZero): the shape of its output cannot be inferred" in message


def test_reshape_by_data(tmp_path: Path) -> None:
    m = Model(2, elem=7)
    m.inputs.append(helper.make_tensor_value_info("y", 1, (1, 4)))
    m.node("Reshape", "y", "x", out="z")
    message = fails(m.write(tmp_path))
    assert "node 'n_z' (Reshape): this input must be a constant" in message


def test_operator_of_another_domain_without_a_shape(tmp_path: Path) -> None:
    m = Model(1, 4)
    m.node("Magic", "x", domain="custom", out="y")
    assert "node 'n_y' (Magic): this operator is unknown" in fails(m.write(tmp_path))


def test_tensor_that_nothing_produces(tmp_path: Path) -> None:
    m = Model(1, 4)
    m.node("Relu", "ghost", out="y")
    message = fails(m.write(tmp_path))
    assert "node 'n_y' (Relu): this input is produced by no node; found 'ghost'" in message


def test_output_that_nothing_produces(tmp_path: Path) -> None:
    m = Model(1, 4)
    m.node("Relu", "x")
    message = fails(m.write(tmp_path, "ghost"))
    assert "no node produces this network output; found 'ghost'" in message


def test_cycle(tmp_path: Path) -> None:
    m = Model(1, 4)
    m.node("Add", "x", "b", out="a")
    m.node("Relu", "a", out="b")
    path = m.write(tmp_path)
    assert "the graph has a cycle: n_a, n_b" in fails(path)
    with pytest.raises(GraphError):
        read_onnx(path)


@pytest.mark.parametrize(
    ("kind", "shape", "attributes"),
    [("Conv", (4, 2, 3, 3), {}), ("Conv", (4, 3, 3), {}), ("Conv", (4, 3, 9, 9), {}),
     ("Conv", (4, 3, 3, 3), {"pads": [1, 1]}), ("MatMul", (7, 3), {}), ("Add", (5,), {}),
     ("Concat", (1, 1, 1, 1), {"axis": 1})],
)  # fmt: skip
def test_shapes_that_disagree_name_the_node(
    tmp_path: Path, kind: str, shape: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    m = Model(1, 3, 8, 8)
    m.node(kind, "x", m.weight("w", *shape), out="y", **attributes)
    assert f"node 'n_y' ({kind}): " in fails(m.write(tmp_path))


def test_output_that_is_constant_is_not_planned(tmp_path: Path) -> None:
    m = Model(1, 4)
    m.node("Relu", "x", out="y")
    m.node("Identity", m.weight("anchors", 4), out="a")
    network = m.read(tmp_path, "y", "a")
    assert network.outputs == ("y",)
    assert network.warnings == ("network output(s) that are constant: a",)


def test_nothing_depends_on_an_input(tmp_path: Path) -> None:
    m = Model(1, 4)
    m.node("Identity", m.weight("w", 4), out="y")
    assert "no network output depends on an input" in fails(m.write(tmp_path))
