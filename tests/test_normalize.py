"""Normalisation, one rule at a time, on networks built by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from spm_opt.errors import GraphError
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Layer, Network, Tensor, Weight, operand_of
from spm_opt.graph.normalize import normalize
from spm_opt.graph.ops import (
    BatchNorm,
    Binary,
    Concat,
    Conv,
    Linear,
    MatMul,
    Normalize,
    Op,
    Pad,
    Pool,
    Reduce,
    Shape,
    Slice,
    Softmax,
    Transpose,
    Unary,
    View,
)


class Net:
    """A raw network, layer by layer; a layer and its output share their name."""

    def __init__(self, *shape: int, dtype: str = "float32") -> None:
        self.dtype = dtype
        self.tensors = {"x": Tensor("x", shape, dtype)}
        self.layers: list[Layer] = []

    def add(
        self, name: str, op: Op, *inputs: str, weights: Sequence[Weight] = (),
        cycles: int | None = None,
    ) -> str:  # fmt: skip
        operands = tuple(operand_of(self.tensors[i]) for i in inputs)
        shape = op.infer(tuple(operand.shape for operand in operands))
        self.tensors[name] = Tensor(name, shape, self.dtype)
        self.layers.append(Layer(name, op, operands, name, shape, tuple(weights), cycles))
        return name

    def conv(self, name: str, source: str, channels: int = 4) -> str:
        shape = (channels, self.tensors[source].shape[1], 3, 3)
        op = Conv(channels, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
        return self.add(name, op, source, weights=[Weight(f"{name}.w", shape, self.dtype)])

    def constant(self, name: str, mode: str, source: str, shape: Shape = ()) -> str:
        weight = Weight(f"{name}.c", shape, self.dtype, "constant")
        return self.add(name, Binary(mode, constant_shape=shape), source, weights=[weight])

    def raw(self, *outputs: str) -> Network:
        return Network("net", self.tensors, tuple(self.layers), ("x",), outputs)

    def normal(self, *outputs: str) -> Network:
        return normalize(self.raw(*outputs))


@pytest.fixture
def image() -> Net:
    return Net(1, 3, 8, 8)


def names(network: Network) -> list[str]:
    return [layer.name for layer in network.layers]


def activation(layer: Layer) -> object:
    return getattr(layer.op, "activation", None)


# --- epilogues ---


def test_batch_norm_and_relu_fold_into_a_conv_that_gets_a_bias(image: Net) -> None:
    image.conv("conv", "x")
    image.add("bn", BatchNorm(), "conv", weights=[Weight("g", (4,)), Weight("b", (4,))])
    image.add("relu", Unary("relu"), "bn")
    (layer,) = image.normal("relu").layers
    assert (layer.name, layer.output, layer.folded) == ("conv", "relu", ("bn", "relu"))
    assert layer.op == replace(image.layers[0].op, bias=True, activation="relu")
    assert layer.weights[1] == Weight("conv.bias", (4,), "float32", "bias")
    assert layer.parameters == 4 * 3 * 9 + 4


def test_batch_norm_keeps_a_bias_that_is_there(image: Net) -> None:
    op = Conv(4, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), bias=True)
    weights = [Weight("w", (4, 3, 1, 1)), Weight("b", (4,), "int32", "bias")]
    image.add("conv", op, "x", weights=weights)
    image.add("bn", BatchNorm(), "conv", weights=[Weight("g", (4,))])
    (layer,) = image.normal("bn").layers
    assert layer.weights == tuple(weights)


def test_bias_of_an_integer_network_is_int32() -> None:
    net = Net(1, 3, 8, 8, dtype="int8")
    net.conv("conv", "x")
    net.constant("bias", "add", "conv", (4, 1, 1))
    (layer,) = net.normal("bias").layers
    assert layer.weights[1] == Weight("bias.c", (4,), "int32", "bias")


@pytest.mark.parametrize("mode", ["mul", "div"])
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (4, 1, 1), (), (1,)])
def test_scale_vanishes_in_the_conv(image: Net, mode: str, shape: Shape) -> None:
    image.conv("conv", "x")
    image.constant("scale", mode, "conv", shape)
    (layer,) = image.normal("scale").layers
    assert (layer.output, layer.parameters) == ("scale", 4 * 27)


@pytest.mark.parametrize("shape", [(8,), (1, 4, 8, 8), (), (1, 1, 4, 1, 1)])
def test_other_constants_stay(image: Net, shape: Shape) -> None:
    image.conv("conv", "x")
    image.constant("add", "add", "conv", shape)
    assert names(image.normal("add")) == ["conv", "add"]


@pytest.mark.parametrize("mode", ["pow", "max", "rdiv", "where"])
def test_other_functions_of_a_constant_stay(image: Net, mode: str) -> None:
    image.conv("conv", "x")
    image.constant("f", mode, "conv", (4, 1, 1))
    assert names(image.normal("f")) == ["conv", "f"]


def test_linear_takes_its_bias_on_the_last_axis() -> None:
    net = Net(2, 5, 6)
    net.add("fc", Linear(7), "x", weights=[Weight("w", (6, 7), "float32")])
    net.constant("bias", "add", "fc", (7,))
    net.add("gelu", Unary("gelu"), "bias")
    (layer,) = net.normal("gelu").layers
    assert layer.op == Linear(7, bias=True, activation="gelu")


def test_batch_norm_of_tokens_is_not_that_of_features() -> None:
    net = Net(2, 5, 6)
    net.add("fc", Linear(7), "x", weights=[Weight("w", (6, 7), "float32")])
    net.add("bn", BatchNorm(), "fc")
    assert names(net.normal("bn")) == ["fc", "bn"]


def test_second_activation_stays(image: Net) -> None:
    image.conv("conv", "x")
    image.add("relu", Unary("relu"), "conv")
    image.add("tanh", Unary("tanh"), "relu")
    first, second = image.normal("tanh").layers
    assert (activation(first), second.op) == ("relu", Unary("tanh"))


def test_batch_norm_after_an_activation_stays_and_takes_its_own(image: Net) -> None:
    image.conv("conv", "x")
    image.add("relu", Unary("relu"), "conv")
    image.add("bn", BatchNorm(), "relu")
    image.add("relu2", Unary("relu"), "bn")
    first, second = image.normal("relu2").layers
    assert (activation(first), second.op) == ("relu", BatchNorm("relu"))


def test_nothing_folds_into_a_tensor_with_another_reader(image: Net) -> None:
    image.conv("conv", "x")
    image.add("relu", Unary("relu"), "conv")
    image.add("sum", Binary("add"), "conv", "relu")
    assert names(image.normal("sum")) == ["conv", "relu", "sum"]


def test_nothing_folds_into_a_network_output(image: Net) -> None:
    image.conv("conv", "x")
    image.add("relu", Unary("relu"), "conv")
    network = image.normal("conv", "relu")
    assert names(network) == ["conv", "relu"]
    assert network.outputs == ("conv", "relu")


def test_nothing_folds_into_a_view_of_it_that_is_a_network_output(image: Net) -> None:
    image.conv("conv", "x")
    image.add("relu", Unary("relu"), "conv")
    image.add("flat", View((4, 64)), "conv")
    assert names(image.normal("flat", "relu")) == ["conv", "relu"]


def test_residual_addition_takes_the_activation(image: Net) -> None:
    image.conv("a", "x")
    image.conv("b", "x")
    image.add("sum", Binary("add"), "a", "b")
    image.add("relu", Unary("relu"), "sum")
    network = image.normal("relu")
    assert network.layers[2].op == Binary("add", activation="relu")


def test_softmax_takes_no_activation(image: Net) -> None:
    image.add("soft", Softmax(-1), "x")
    image.add("log", Unary("log"), "soft")
    assert names(image.normal("log")) == ["soft", "log"]


def test_a_cast_is_not_an_activation(image: Net) -> None:
    image.conv("conv", "x")
    image.add("cast", Unary("cast"), "conv")
    assert names(image.normal("cast")) == ["conv", "cast"]


def test_measured_cycles_add_up_and_are_never_lost(image: Net) -> None:
    image.conv("conv", "x")
    image.add("relu", Unary("relu"), "conv", cycles=7)
    assert names(image.normal("relu")) == ["conv", "relu"]
    image.layers[0] = replace(image.layers[0], cycles=100)
    (layer,) = image.normal("relu").layers
    assert layer.cycles == 107


def test_slopes_of_a_prelu_come_along(image: Net) -> None:
    image.conv("conv", "x")
    image.add("prelu", Unary("prelu"), "conv", weights=[Weight("s", (4, 1, 1), role="constant")])
    (layer,) = image.normal("prelu").layers
    assert [weight.name for weight in layer.weights] == ["conv.w", "s"]


@pytest.mark.parametrize("slopes", [(4,), (8, 1), (4, 8, 8)])
def test_slopes_that_are_not_one_a_channel_stay(slopes: Shape) -> None:
    net = Net(1, 4, 8, 4)
    net.conv("conv", "x")
    net.add("prelu", Unary("prelu"), "conv", weights=[Weight("s", slopes, role="constant")])
    assert names(net.normal("prelu")) == ["conv", "prelu"]


def test_slopes_of_another_view_stay() -> None:
    net = Net(1, 3, 3, 3)
    net.add("add", Binary("add"), "x", "x")
    net.add("view", View((1, 3, 9)), "add")
    net.add("prelu", Unary("prelu"), "view", weights=[Weight("s", (3, 1), role="constant")])
    assert names(net.normal("prelu")) == ["add", "prelu"]


def test_a_norm_of_one_element_is_no_copy(image: Net) -> None:
    image.add("pool", Pool("lp", (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)), "x")
    image.add("max", Pool("max", (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)), "pool")
    assert names(image.normal("max")) == ["pool"]


def test_zero_padding_goes_into_the_conv(image: Net) -> None:
    image.add("pad", Pad((0, 0, 1, 2, 0, 0, 3, 4)), "x")
    op = Conv(4, (3, 3), (2, 2), (1, 0, 0, 0), (1, 1))
    image.add("conv", op, "pad", weights=[Weight("w", (4, 3, 3, 3))])
    (layer,) = image.normal("conv").layers
    assert layer.op == replace(op, pads=(2, 2, 3, 4))
    assert (layer.inputs[0].tensor, layer.folded) == ("x", ("pad",))


@pytest.mark.parametrize(
    "pad",
    [Pad((0, 0, 1, 1, 0, 0, 1, 1), value=1.0), Pad((0, 0, 1, 1, 0, 0, 1, 1), "reflect"),
     Pad((0, 1, 0, 0, 0, 0, 0, 0)), Pad((0, 0, -1, 0, 0, 0, 0, 0))],
)  # fmt: skip
def test_other_padding_stays(image: Net, pad: Pad) -> None:
    image.add("pad", pad, "x")
    image.conv("conv", "pad")
    assert names(image.normal("conv")) == ["pad", "conv"]


# --- views ---


def test_views_become_operands_and_aliases(image: Net) -> None:
    image.conv("conv", "x")
    image.add("flat", View((1, 256)), "conv")
    image.add("same", View((1, 256)), "flat")
    image.add("fc", Linear(10), "same", weights=[Weight("w", (256, 10))])
    network = image.normal("fc")
    assert names(network) == ["conv", "fc"]
    assert network.layers[1].inputs[0].tensor == "conv"
    assert network.layers[1].inputs[0].shape == (1, 256)
    assert network.aliases == {"flat": "conv", "same": "conv"}
    assert set(network.tensors) == {"x", "conv", "fc"}


def test_activation_folds_through_a_view(image: Net) -> None:
    image.conv("conv", "x")
    image.add("flat", View((1, 256)), "conv")
    image.add("relu", Unary("relu"), "flat")
    image.add("fc", Linear(10), "relu", weights=[Weight("w", (256, 10))])
    network = image.normal("fc")
    conv, fc = network.layers
    assert (conv.output, conv.output_shape, activation(conv)) == ("relu", (1, 4, 8, 8), "relu")
    assert (fc.inputs[0].tensor, fc.inputs[0].shape) == ("relu", (1, 256))
    # what the view named does not exist any more: it would be the values before the relu
    assert network.aliases == {}


def test_bias_folds_through_a_view_that_keeps_the_channels() -> None:
    net = Net(6, 4)
    net.add("fc", Linear(8), "x", weights=[Weight("w", (4, 8), "float32")])
    net.add("split", View((2, 3, 8)), "fc")
    net.constant("bias", "add", "split", (8,))
    net.add("soft", Softmax(-1), "bias")
    network = net.normal("soft")
    assert names(network) == ["fc", "soft"]
    assert network.layers[0].op == Linear(8, bias=True)


def test_bias_does_not_fold_through_a_view_that_splits_the_channels() -> None:
    net = Net(6, 4)
    net.add("fc", Linear(8), "x", weights=[Weight("w", (4, 8), "float32")])
    net.add("split", View((6, 2, 4)), "fc")
    net.constant("bias", "add", "split", (4,))
    assert names(net.normal("bias")) == ["fc", "bias"]


def test_output_that_is_a_view_is_its_tensor(image: Net) -> None:
    image.conv("conv", "x")
    image.add("flat", View((1, 256)), "conv")
    network = image.normal("flat", "conv")
    assert network.outputs == ("conv",)
    assert network.aliases == {"flat": "conv"}


def test_view_from_input_to_output(image: Net) -> None:
    image.add("flat", View((1, 192)), "x")
    network = image.normal("flat")
    assert (network.layers, network.inputs, network.outputs) == ((), ("x",), ("x",))


@pytest.mark.parametrize(
    "op",
    [
        Transpose((0, 2, 3, 1)),
        Slice((0, 0, 0, 0), (1, 1, 8, 8), (1, 1, 1, 1)),
        Pad((0,) * 8),
        Pool("avg", (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
        Concat(1),
        Binary("add"),
    ],
    ids=lambda op: op.kind,
)
def test_layers_that_move_nothing_are_views(op: Op) -> None:
    net = Net(1, 1, 8, 8)
    net.add("nothing", op, "x")
    net.add("soft", Softmax(-1), "nothing")
    network = net.normal("soft")
    assert names(network) == ["soft"]
    assert network.aliases == {"nothing": "x"}


@pytest.mark.parametrize(
    "op",
    [
        Transpose((0, 1, 3, 2)),
        Slice((0, 0, 7, 0), (1, 1, 8, 8), (1, 1, -1, 1)),
        Binary("mul", activation="relu"),
        Pool("avg", (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), activation="relu"),
    ],
    ids=lambda op: op.kind,
)
def test_layers_of_the_same_shape_that_do_something_stay(op: Op) -> None:
    net = Net(1, 1, 8, 8)
    net.add("something", op, "x")
    assert names(net.normal("something")) == ["something"]


# --- composite functions ---


def silu(net: Net, x: str) -> str:
    net.add("sigmoid", Unary("sigmoid"), x)
    return net.add("mul", Binary("mul"), x, "sigmoid")


def hardswish(net: Net, x: str) -> str:
    net.add("hs", Unary("hardsigmoid"), x)
    return net.add("mul", Binary("mul"), "hs", x)


def hardswish_by_clip(net: Net, x: str) -> str:
    net.constant("plus3", "add", x)
    net.add("clip", Unary("relu6"), "plus3")
    net.add("mul", Binary("mul"), x, "clip")
    return net.constant("by6", "div", "mul")


def gelu_erf(net: Net, x: str) -> str:
    net.constant("scaled", "div", x)
    net.add("erf", Unary("erf"), "scaled")
    net.constant("plus1", "add", "erf", (1,))
    net.add("mul", Binary("mul"), x, "plus1")
    return net.constant("half", "mul", "mul")


def gelu_half_first(net: Net, x: str) -> str:
    net.constant("scaled", "mul", x)
    net.add("erf", Unary("erf"), "scaled")
    net.constant("plus1", "add", "erf")
    net.constant("half", "mul", x)
    return net.add("mul", Binary("mul"), "half", "plus1")


def gelu_tanh(net: Net, x: str) -> str:
    net.constant("cube", "pow", x)
    net.constant("b", "mul", "cube")
    net.add("sum", Binary("add"), x, "b")
    net.constant("a", "mul", "sum")
    net.add("tanh", Unary("tanh"), "a")
    net.constant("plus1", "add", "tanh")
    net.constant("half", "mul", x)
    return net.add("mul", Binary("mul"), "half", "plus1")


def gelu_products(net: Net, x: str) -> str:
    net.add("xx", Binary("mul"), x, x)
    net.add("xxx", Binary("mul"), x, "xx")
    net.constant("b", "mul", "xxx")
    net.add("sum", Binary("add"), x, "b")
    net.constant("a", "mul", "sum")
    net.add("tanh", Unary("tanh"), "a")
    net.constant("plus1", "add", "tanh")
    net.add("mul", Binary("mul"), x, "plus1")
    return net.constant("half", "mul", "mul")


def mish(net: Net, x: str) -> str:
    net.add("softplus", Unary("softplus"), x)
    net.add("tanh", Unary("tanh"), "softplus")
    return net.add("mul", Binary("mul"), x, "tanh")


COMPOSITES = [
    (silu, "silu"), (hardswish, "hardswish"), (hardswish_by_clip, "hardswish"),
    (gelu_erf, "gelu"), (gelu_half_first, "gelu"), (gelu_tanh, "gelu"), (gelu_products, "gelu"),
    (mish, "mish"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "mode"), COMPOSITES)
def test_composite_folds_into_its_conv(image: Net, build: object, mode: str) -> None:
    assert callable(build)
    image.conv("conv", "x")
    last = build(image, "conv")
    (layer,) = image.normal(last).layers
    assert (activation(layer), layer.output) == (mode, last)
    assert set(layer.folded) == {raw.name for raw in image.layers} - {"conv"}
    assert layer.parameters == 4 * 27


@pytest.mark.parametrize(("build", "mode"), COMPOSITES)
def test_composite_that_cannot_fold_is_one_unary(image: Net, build: object, mode: str) -> None:
    assert callable(build)
    image.conv("conv", "x")
    last = build(image, "conv")
    image.add("total", Binary("add"), "conv", last)
    network = image.normal("total")
    assert [layer.op for layer in network.layers[1:]] == [Unary(mode), Binary("add")]


def test_gate_with_another_reader_is_no_silu(image: Net) -> None:
    image.conv("conv", "x")
    silu(image, "conv")
    image.add("sum", Binary("add"), "sigmoid", "mul")
    assert names(image.normal("sum")) == ["conv", "sigmoid", "mul", "sum"]


def test_squeeze_and_excitation_is_no_silu(image: Net) -> None:
    image.conv("conv", "x")
    image.add("pool", Reduce("mean", (2, 3)), "conv")
    image.conv("gate", "pool")
    image.add("sigmoid", Unary("sigmoid"), "gate")
    image.add("mul", Binary("mul"), "conv", "sigmoid")
    network = image.normal("mul")
    assert names(network) == ["conv", "pool", "gate", "mul"]
    assert activation(network.layers[2]) == "sigmoid"


def test_vector_constant_makes_no_gelu(image: Net) -> None:
    image.conv("conv", "x")
    image.constant("scaled", "div", "conv")
    image.add("erf", Unary("erf"), "scaled")
    image.constant("plus", "add", "erf", (8,))
    image.add("mul", Binary("mul"), "conv", "plus")
    image.constant("half", "mul", "mul")
    assert names(image.normal("half")) == ["conv", "scaled", "plus", "mul", "half"]


def layer_norm(net: Net, x: str) -> str:
    net.add("mean", Reduce("mean", (-1,)), x)
    net.add("sub", Binary("sub"), x, "mean")
    net.constant("sq", "pow", "sub")
    net.add("var", Reduce("mean", (-1,)), "sq")
    net.constant("eps", "add", "var")
    net.add("sqrt", Unary("sqrt"), "eps")
    net.add("div", Binary("div"), "sub", "sqrt")
    net.constant("gain", "mul", "div", (6,))
    return net.constant("shift", "add", "gain", (6,))


def rms_norm(net: Net, x: str) -> str:
    net.constant("sq", "pow", x)
    net.add("ms", Reduce("mean", (2,)), "sq")
    net.constant("eps", "add", "ms")
    net.add("sqrt", Unary("sqrt"), "eps")
    net.add("inverse", Unary("reciprocal"), "sqrt")
    net.add("div", Binary("mul"), x, "inverse")
    return net.constant("gain", "mul", "div", (6,))


@pytest.mark.parametrize(
    ("build", "mode", "roles"),
    [(layer_norm, "layer", ["weight", "bias"]), (rms_norm, "rms", ["weight"])],
)
def test_spelled_out_normalisation_is_one_layer(build: object, mode: str, roles: list[str]) -> None:
    assert callable(build)
    net = Net(2, 5, 6)
    net.add("fc", Linear(6), "x", weights=[Weight("w", (6, 6))])
    last = build(net, "fc")
    network = net.normal(last)
    _, norm = network.layers
    assert norm.op == Normalize(mode, (2,), affine=True)
    assert [weight.role for weight in norm.weights] == roles
    assert norm.output == last


def test_means_over_different_axes_are_no_layer_norm() -> None:
    net = Net(2, 5, 6)
    net.add("fc", Linear(6), "x", weights=[Weight("w", (6, 6))])
    last = layer_norm(net, "fc")
    at = next(i for i, layer in enumerate(net.layers) if layer.name == "mean")
    other = replace(net.layers[at], op=Reduce("mean", (1,)), output_shape=(2, 1, 6))
    net.layers[at], net.tensors["mean"] = other, Tensor("mean", (2, 1, 6), "float32")
    for i, layer in enumerate(net.layers):
        inputs = tuple(operand_of(net.tensors[o.tensor]) for o in layer.inputs)
        net.layers[i] = replace(layer, inputs=inputs)
    found = [layer.op for layer in net.normal(last).layers if isinstance(layer.op, Normalize)]
    # what is divided by its root mean square is one all the same
    assert found == [Normalize("rms", (2,), affine=True)]


# --- dead layers, order, purity ---


def test_dead_layers_and_inputs_go_with_a_warning(image: Net) -> None:
    image.conv("conv", "x")
    image.conv("dead", "x")
    image.add("dead2", Unary("relu"), "dead")
    image.tensors["y"] = Tensor("y", (1,))
    raw = replace(image.raw("conv"), inputs=("x", "y"))
    network = normalize(raw)
    assert names(network) == ["conv"]
    assert network.inputs == ("x",)
    layers, inputs = network.warnings
    assert layers.endswith("no network output were dropped: dead, dead2")
    assert inputs.endswith("read by no layer were dropped: y")


def test_a_dead_reader_does_not_hinder_folding(image: Net) -> None:
    image.conv("conv", "x")
    image.add("dead", Unary("tanh"), "conv")
    image.add("relu", Unary("relu"), "conv")
    assert names(image.normal("relu")) == ["conv"]


def test_layers_come_in_topological_order(image: Net) -> None:
    image.conv("a", "x")
    image.conv("b", "a")
    image.add("sum", Binary("add"), "a", "b")
    image.layers.reverse()
    assert names(image.normal("sum")) == ["a", "b", "sum"]


def test_normalising_twice_changes_nothing(image: Net) -> None:
    image.conv("conv", "x")
    image.add("flat", View((1, 256)), gelu_erf(image, "conv"))
    once = image.normal("flat")
    assert normalize(once) == once


def test_a_network_without_outputs_is_refused(image: Net) -> None:
    image.conv("conv", "x")
    with pytest.raises(GraphError, match="net: the network has no output"):
        image.normal()


def test_scores_keep_their_scale(image: Net) -> None:
    net = Net(1, 2, 5, 5)
    net.add("scores", MatMul(), "x", "x")
    net.constant("scale", "div", "scores")
    net.add("soft", Softmax(-1), "scale")
    assert names(net.normal("soft")) == ["scores", "scale", "soft"]


def test_concatenations_that_begin_alike_are_joined_step_by_step():
    builder = NetworkBuilder("dense")
    maps = [builder.input("x", (1, 2, 4, 4))]
    for i in range(3):
        joined = builder.concat(maps, axis=1, name=f"join{i}") if i else maps[0]
        maps.append(builder.conv(joined, 2, 1, name=f"conv{i}"))
    builder.output(builder.concat(maps, axis=1, name="last"))
    network = builder.build()
    of = {layer.name: [operand.tensor for operand in layer.inputs] for layer in network.layers}
    assert of["join1"] == ["x", "conv0"]
    assert of["join2"] == ["join1", "conv1"]
    assert of["last"] == ["join2", "conv2"]
    assert network.tensors["last"].shape == (1, 8, 4, 4)


def test_concatenations_on_other_axes_or_in_other_orders_are_left_alone():
    builder = NetworkBuilder("apart")
    x, y = builder.input("x", (1, 2, 4, 4)), builder.input("y", (1, 2, 4, 4))
    z = builder.input("z", (1, 2, 4, 4))
    first = builder.concat([x, y], axis=1, name="first")
    builder.output(
        first,
        builder.concat([y, x, z], axis=1, name="turned"),
        builder.concat([x, y, z], axis=2, name="stacked"),
    )
    of = {layer.name: len(layer.inputs) for layer in builder.build().layers}
    assert of == {"first": 2, "turned": 3, "stacked": 3}


def attention(outputs: Sequence[str] = ("out",)) -> Network:
    builder = NetworkBuilder("heads")
    x = builder.input("x", (1, 6, 8))
    heads = builder.transpose(builder.reshape(x, (0, 0, 2, 4)), (0, 2, 1, 3), name="heads")
    joined = builder.transpose(builder.relu(heads, name="act"), (0, 2, 1, 3), name="joined")
    seen = builder.reshape(joined, (0, 0, -1), name="seen")
    builder.linear(seen, 5, name="out")
    builder.output(*outputs)
    return builder.build()


def test_heads_joined_again_are_written_as_their_readers_see_them():
    network = attention()
    of = {layer.name: layer for layer in network.layers}
    assert of["joined"].output_shape == network.tensors["joined"].shape == (1, 6, 8)
    # row by row in, row by row out: tokens throughout
    assert [layer.input_rows(0).axis for layer in network.layers] == [1, 2, 2, 1]
    assert of["out"].inputs[0] == operand_of(network.tensors["joined"])
    assert normalize(network) == network


def test_a_transposed_map_that_is_seen_otherwise_keeps_its_shape():
    network = attention(("out", "joined"))
    assert network.tensors["joined"].shape == (1, 6, 2, 4)
    op = next(layer.op for layer in network.layers if layer.name == "joined")
    assert op == Transpose((0, 2, 1, 3))
