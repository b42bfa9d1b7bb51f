"""The Python builder: shapes against hand-computed values, constants, names, errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spm_opt.errors import GraphError
from spm_opt.graph import ops
from spm_opt.graph.builder import Handle, NetworkBuilder

IMAGE = (1, 8, 15, 20)
TOKENS = (2, 6, 32)

Call = Callable[[NetworkBuilder, Handle], Handle]

SHAPES: list[tuple[str, tuple[int, ...], Call, tuple[int, ...]]] = [
    ("conv 3x3", IMAGE, lambda b, x: b.conv(x, 16, 3), (1, 16, 13, 18)),
    # floor((15 + 2 - 3) / 2) + 1, floor((20 + 2 - 3) / 2) + 1
    ("conv stride", IMAGE, lambda b, x: b.conv(x, 16, 3, 2, 1), (1, 16, 8, 10)),
    ("conv pairs", IMAGE, lambda b, x: b.conv(x, 4, (5, 1), (2, 3), (2, 0)), (1, 4, 8, 7)),
    ("conv same", IMAGE, lambda b, x: b.conv(x, 4, 5, 2, "same"), (1, 4, 8, 10)),
    ("conv sides", IMAGE, lambda b, x: b.conv(x, 4, 3, 1, (0, 1, 2, 3)), (1, 4, 15, 22)),
    # the dilated kernel spans 1 + 2 * 2 = 5
    ("conv dilated", IMAGE, lambda b, x: b.conv(x, 4, 3, dilation=2), (1, 4, 11, 16)),
    ("conv 1d", (1, 8, 15), lambda b, x: b.conv(x, 4, 3, 2, 1), (1, 4, 8)),
    ("conv 3d", (1, 2, 5, 6, 7), lambda b, x: b.conv(x, 4, (1, 2, 3)), (1, 4, 5, 5, 5)),
    ("depthwise", IMAGE, lambda b, x: b.depthwise(x, 3, 1, 1, multiplier=2), (1, 16, 15, 20)),
    ("upconv", IMAGE, lambda b, x: b.conv_transpose(x, 4, 2, 2), (1, 4, 30, 40)),
    # 2 * (15 - 1) + 3 + 1 - 2
    (
        "upconv padded",
        IMAGE,
        lambda b, x: b.conv_transpose(x, 4, 3, 2, 1, output_padding=1),
        (1, 4, 30, 40),
    ),
    ("linear", TOKENS, lambda b, x: b.linear(x, 5), (2, 6, 5)),
    ("matmul", TOKENS, lambda b, x: b.matmul(x, x, transpose_b=True), (2, 6, 6)),
    ("max pool", IMAGE, lambda b, x: b.max_pool(x, 2), (1, 8, 7, 10)),
    ("max pool ceil", IMAGE, lambda b, x: b.max_pool(x, 2, ceil_mode=True), (1, 8, 8, 10)),
    ("avg pool", IMAGE, lambda b, x: b.avg_pool(x, 3, 1, 1), IMAGE),
    ("global pool", IMAGE, lambda b, x: b.global_avg_pool(x), (1, 8, 1, 1)),
    ("global pool flat", IMAGE, lambda b, x: b.global_avg_pool(x, keepdims=False), (1, 8)),
    ("reduce", IMAGE, lambda b, x: b.reduce(x, "sum", (1, -1), keepdims=False), (1, 15)),
    ("unary", IMAGE, lambda b, x: b.unary(x, "hardswish"), IMAGE),
    ("add constant", TOKENS, lambda b, x: b.add(x, constant=(6, 32)), TOKENS),
    ("mul wider", TOKENS, lambda b, x: b.mul(x, constant=(7, 1, 1, 1)), (7, 2, 6, 32)),
    ("softmax", TOKENS, lambda b, x: b.softmax(x), TOKENS),
    ("layer norm", TOKENS, lambda b, x: b.layer_norm(x), TOKENS),
    ("batch norm", IMAGE, lambda b, x: b.batch_norm(x, "relu"), IMAGE),
    ("concat", IMAGE, lambda b, x: b.concat((x, x, x)), (1, 24, 15, 20)),
    ("concat rows", IMAGE, lambda b, x: b.concat((x, x), axis=-2), (1, 8, 30, 20)),
    (
        "concat constant",
        TOKENS,
        lambda b, x: b.concat((x,), 1, constants=[(0, (2, 1, 32)), (2, (2, 3, 32))]),
        (2, 10, 32),
    ),
    ("split", IMAGE, lambda b, x: b.split(x, (3, 5))[1], (1, 5, 15, 20)),
    ("slice", IMAGE, lambda b, x: b.slice(x, 2, 1, -1, 2), (1, 8, 7, 20)),
    ("slice axes", IMAGE, lambda b, x: b.slice(x, (1, 3), (0, 5), (4, 99)), (1, 4, 15, 15)),
    ("slice backwards", TOKENS, lambda b, x: b.slice(x, 1, -1, None, -1), TOKENS),
    ("pad", TOKENS, lambda b, x: b.pad(x, (0, 1, 0, 0, 2, 0)), (2, 9, 32)),
    ("crop", TOKENS, lambda b, x: b.pad(x, (0, -1, 0, 0, 0, 0)), (2, 5, 32)),
    ("resize", IMAGE, lambda b, x: b.resize(x, scale=2), (1, 8, 30, 40)),
    ("resize to", IMAGE, lambda b, x: b.resize(x, size=(7, 9), mode="linear"), (1, 8, 7, 9)),
    ("gather", TOKENS, lambda b, x: b.gather(x, axis=1, indices_shape=(3,)), (2, 3, 32)),
    ("embedding", (2, 6), lambda b, x: b.embedding(x, 100, 32), TOKENS),
    ("transpose", TOKENS, lambda b, x: b.transpose(x, (0, 2, 1)), (2, 32, 6)),
    ("reshape", TOKENS, lambda b, x: b.reshape(x, (0, 0, 4, -1)), (2, 6, 4, 8)),
    ("flatten", IMAGE, lambda b, x: b.flatten(x), (1, 2400)),
    ("squeeze", (2, 1, 3, 1), lambda b, x: b.squeeze(x), (2, 3)),
    ("squeeze one", (2, 1, 3, 1), lambda b, x: b.squeeze(x, -1), (2, 1, 3)),
    ("unsqueeze", (2, 3), lambda b, x: b.layer("unsqueeze", x, axes=[0, -1]), (1, 2, 3, 1)),
    ("opaque", IMAGE, lambda b, x: b.opaque((x,), "Mystery", (0, 5)), (1, 5)),
]


@pytest.mark.parametrize(
    ("shape", "call", "expected"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES]
)
def test_shape(shape: tuple[int, ...], call: Call, expected: tuple[int, ...]) -> None:
    b = NetworkBuilder("n")
    handle = call(b, b.input("x", shape))
    assert handle.shape == expected
    network = b.build(normalize=False)  # runs every check of the network
    assert network.tensors[handle.name].shape == expected


def _conv(padding: object, **fields: object) -> ops.Conv:
    b = NetworkBuilder("n")
    b.conv(b.input("x", IMAGE), 4, padding=padding, name="c", **fields)  # type: ignore[arg-type]
    op = b.build(normalize=False).layers[0].op
    assert isinstance(op, ops.Conv)
    return op


def test_padding_spellings() -> None:
    assert _conv(1, kernel=3).pads == (1, 1, 1, 1)
    assert _conv((2, 1), kernel=3).pads == (2, 1, 2, 1)
    assert _conv((0, 1, 2, 3), kernel=3).pads == (0, 1, 2, 3)
    # rows: 15 at stride 2 -> 8, 7 * 2 + 3 - 15 = 2; columns: 20 -> 10, 9 * 2 + 3 - 20 = 1
    assert _conv("same", kernel=3, stride=2).pads == (1, 0, 1, 1)
    # an even kernel has its odd row at the end
    assert _conv("same", kernel=4).pads == (1, 1, 2, 2)


def _weights(shape: tuple[int, ...], call: Call, dtype: str = "int8") -> list[tuple[object, ...]]:
    b = NetworkBuilder("n", dtype)
    call(b, b.input("x", shape))
    layer = b.build(normalize=False).layers[-1]
    return [(w.name, w.shape, w.dtype, w.role) for w in layer.weights]


def test_weights_of_convolutions() -> None:
    assert _weights(IMAGE, lambda b, x: b.conv(x, 16, (3, 5), groups=2, name="c")) == [
        ("c.weight", (16, 4, 3, 5), "int8", "weight"),
        ("c.bias", (16,), "int32", "bias"),
    ]
    assert _weights(IMAGE, lambda b, x: b.depthwise(x, 3, bias=False, name="d")) == [
        ("d.weight", (8, 1, 3, 3), "int8", "weight")
    ]
    assert _weights(IMAGE, lambda b, x: b.conv_transpose(x, 4, 2, name="t"), "float16") == [
        ("t.weight", (8, 4, 2, 2), "float16", "weight"),
        ("t.bias", (4,), "float16", "bias"),
    ]


def test_weights_of_other_layers() -> None:
    assert _weights(TOKENS, lambda b, x: b.linear(x, 5, name="l")) == [
        ("l.weight", (5, 32), "int8", "weight"),
        ("l.bias", (5,), "int32", "bias"),
    ]
    assert _weights(IMAGE, lambda b, x: b.batch_norm(x, name="n"), "float32") == [
        ("n.weight", (8,), "float32", "weight"),
        ("n.bias", (8,), "float32", "bias"),
    ]
    assert [row[1] for row in _weights(TOKENS, lambda b, x: b.layer_norm(x, (-1, 1)))] == [
        (6, 32),
        (6, 32),
    ]
    assert _weights(TOKENS, lambda b, x: b.layer_norm(x, affine=False)) == []
    assert len(_weights(TOKENS, lambda b, x: b.layer("normalize", x, mode="rms"))) == 1
    assert _weights(TOKENS, lambda b, x: b.add(x, constant=(32,), name="a")) == [
        ("a.constant", (32,), "int8", "constant")
    ]
    assert _weights(TOKENS, lambda b, x: b.concat((x,), constants=[(0, TOKENS)], name="j")) == [
        ("j.constant0", TOKENS, "int8", "constant")
    ]
    assert _weights((2, 6), lambda b, x: b.embedding(x, 100, 32, name="e")) == [
        ("e.table", (100, 32), "int8", "table")
    ]
    assert _weights(TOKENS, lambda b, x: b.gather(x, indices_shape=(1,), name="g")) == [
        ("g.indices", (1,), "int32", "constant")
    ]


def test_macs_of_a_hand_counted_network() -> None:
    b = NetworkBuilder("n")
    x = b.conv(b.input("x", (1, 3, 8, 8)), 4, 3, 2, 1)  # 4*4*4 outputs of 27
    x = b.depthwise(x, 3, 1, 1)  # 4*4*4 outputs of 9
    b.output(b.linear(b.flatten(x), 10))  # 10 outputs of 64
    network = b.build(normalize=False)
    assert network.macs == 64 * 27 + 64 * 9 + 640
    assert network.parameters == (108 + 4) + (36 + 4) + (640 + 10)


def test_build_normalises() -> None:
    b = NetworkBuilder("n")
    x = b.conv(b.input("x", (1, 3, 8, 8)), 4, 3, name="c", bias=False)
    x = b.relu(b.batch_norm(x), name="r")
    b.output(b.linear(b.flatten(x), 10, name="fc"))
    network = b.build()
    assert [layer.name for layer in network.layers] == ["c", "fc"]
    assert network.layers[0].op.activation == "relu"  # type: ignore[attr-defined]
    assert [w.name for w in network.layers[0].weights] == ["c.weight", "c.bias"]


def test_names_cycles_outputs_and_types() -> None:
    b = NetworkBuilder("n", "int16")
    ids = b.input("ids", (1, 6), "int32")
    x = b.embedding(ids, 9, 4)
    x = b.linear("embedding1", 4, cycles=77)
    y = b.layer("relu", x, output="out")
    z = b.relu(y)
    again = b.flatten(ids)
    network = b.build(normalize=False)
    assert [layer.name for layer in network.layers] == [
        "embedding1", "linear1", "relu1", "relu2", "flatten1",
    ]  # fmt: skip
    assert network.layers[1].cycles == 77
    assert network.layers[3].inputs[0].tensor == "out"
    # without a mark: what nobody reads
    assert network.outputs == (z.name, again.name)
    b.output("relu1")
    assert b.build(normalize=False).outputs == ("out",)
    assert network.tensors["embedding1"].dtype == "int16"
    assert network.tensors["flatten1"].dtype == "int32"


def test_split_gives_slices() -> None:
    b = NetworkBuilder("n")
    first, second = b.split(b.input("x", IMAGE), (3, 5), name="s")
    assert (first.name, second.name) == ("s.0", "s.1")
    op = b.build(normalize=False).layers[1].op
    assert op == ops.Slice((0, 3, 0, 0), (1, 5, 15, 20), (1, 1, 1, 1))
    assert [record.op for record in b.records] == ["split"]


ERRORS: list[tuple[Call, str]] = [
    (
        lambda b, x: b.conv(x, 0, 3, name="c"),
        "c.out_channels: value not accepted; found 0; allowed: a positive integer",
    ),
    (
        lambda b, x: b.conv(x, 4, (3, 3, 3), name="c"),
        "c.kernel: wrong number of values; found [3, 3, 3]; allowed: 1 or 2 values",
    ),
    (
        lambda b, x: b.conv(x, 4, 3, padding=(1, 1, 1), name="c"),
        "c.padding: wrong number of values; found [1, 1, 1]; allowed: 1, 2 (each axis) or 4 "
        "(all begins, then all ends) values",
    ),
    (
        lambda b, x: b.conv(x, 4, 3, groups=3, name="c"),
        "c.groups: groups must divide the input's 8 and the output's 4 channels; found 3",
    ),
    (
        lambda b, x: b.conv(x, 4, 99, name="c"),
        "c: the conv kernel is larger than the padded input; found (15, 20)",
    ),
    (
        lambda b, x: b.linear(x, 4, cycles=0, name="l"),
        "l.cycles: value not accepted; found 0; allowed: a positive integer",
    ),
    (
        lambda b, x: b.softmax(x, 4, name="s"),
        "s.axis: the input has no such axis; found 4; allowed: -4 .. 3",
    ),
    (
        lambda b, x: b.add(x, name="a"),
        "a.constant: needs a second input, or the shape of a constant",
    ),
    (
        lambda b, x: b.matmul(x, b.flatten(x), name="m"),
        "m: matmul cannot multiply (1, 8, 15, 20) by (1, 2400)",
    ),
    (
        lambda b, x: b.reshape(x, (0, -1, 7), name="v"),
        "v.shape: cannot view (1, 8, 15, 20) so; found [0, -1, 7]",
    ),
    (
        lambda b, x: b.reshape(x, (-1, -1), name="v"),
        "v.shape: is no shape; found [-1, -1]; allowed: positive extents, 0 to copy one, at most "
        "one -1 to infer it",
    ),
    (
        lambda b, x: b.squeeze(x, 1, name="v"),
        "v.axes: only axes of extent 1 can be squeezed; found (1, 8, 15, 20)",
    ),
    (
        lambda b, x: b.slice(x, 1, 5, 5, name="s"),
        "s.end: nothing is left of axis 1 of (1, 8, 15, 20); found 5",
    ),
    (
        lambda b, x: b.split(x, (3, 4), name="s")[0],
        "s.sizes: the sizes must add up to the 8 of axis 1; found [3, 4]",
    ),
    (
        lambda b, x: b.transpose(x, (0, 1, 2, 2), name="t"),
        "t.perm: is no order of the input's axes; found [0, 1, 2, 2]; allowed: each of 0 .. 3 once",
    ),
    (lambda b, x: b.relu("y", name="r"), "r: this input is no tensor of the network; found 'y'"),
    (lambda b, x: b.relu(x, name="x"), "x: this name is used twice"),
    (lambda b, x: b.input("x", (1, 2)), "x: this tensor is produced twice; found 'x'"),
    (
        lambda b, x: b.resize(x, scale=2, size=3, name="r"),
        "r.size: give exactly one of size, scale, shape; found ['size', 'scale']",
    ),
    (
        lambda b, x: b.gather(x, name="g"),
        "g.inputs: inputs are the table, then the indices, without those given as table_shape and "
        "indices_shape; found 1; allowed: 2 inputs",
    ),
    (
        lambda b, x: b.concat((x,), constants=[(2, IMAGE)], name="j"),
        "j.constants: no such position among the pieces; found 2; allowed: 0 .. 1",
    ),
    (
        lambda b, x: b.layer("relu", (x, x), name="r"),
        "r.inputs: wrong number of inputs; found 2; allowed: 1",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[row[1][:30] for row in ERRORS])
def test_error(call: Call, message: str) -> None:
    b = NetworkBuilder("n")
    x = b.input("x", IMAGE)
    with pytest.raises(GraphError) as caught:
        call(b, x)
    assert str(caught.value) == message


def test_unknown_words() -> None:
    with pytest.raises(GraphError, match="dtype: unknown element type; found 'int4'"):
        NetworkBuilder("n", "int4")
    b = NetworkBuilder("n")
    x = b.input("x", IMAGE)
    with pytest.raises(GraphError, match=r"u\.mode: unknown function; found 'rellu'"):
        b.unary(x, "rellu", name="u")
    with pytest.raises(GraphError, match=r"q\.op: unknown operator; found 'warp'; allowed: conv,"):
        b.layer("warp", x, name="q")
    with pytest.raises(GraphError, match=r"c\.colour: unknown field; allowed: out_channels,"):
        b.layer("conv", x, name="c", out_channels=4, kernel=3, colour=1)
    with pytest.raises(GraphError, match="the network has no layers"):
        NetworkBuilder("n").build()
