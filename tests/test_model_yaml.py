"""Model files: what is read, what is written, and what is said about mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spm_opt.errors import InputError
from spm_opt.formats.model_yaml import network_to_yaml, read_model_builder, read_model_yaml
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.graph.network import Network

SMALL = """\
name: small
dtype: int8
inputs:
  image: {shape: [1, 3, 8, 8]}
layers:
- {name: stem, op: conv, out_channels: 4, kernel: 3, stride: 2, padding: 1, bias: false}
- {name: norm, op: batch_norm}
- {name: act, op: relu6}
- {name: parts, op: split, sizes: [1, 3]}
- {name: left, op: sigmoid, inputs: [parts.0]}
- {name: gated, op: mul, inputs: [left, parts.1], cycles: 12}
- {name: flat, op: reshape, shape: [0, -1]}
- {name: fc, op: linear, out_features: 5}
outputs: [fc]
"""


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "model.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def every_operator() -> NetworkBuilder:
    """A network that uses every recipe family, awkward names included."""
    b = NetworkBuilder("every op: 100 %", "float16")
    x = b.input("in put", (1, 8, 16, 12))
    ids = b.input("ids", (1, 6), "int32")
    x = b.conv(x, 16, (3, 1), (2, 1), (0, 0, 2, 1), (1, 2), 2, False, "relu", name="null")
    x = b.depthwise(x, 3, 1, "same", multiplier=2, cycles=99)
    x = b.conv_transpose(x, 8, 4, 2, 1, dilation=1, name="1")
    pooled = b.max_pool(x, (3, 2), 2, 1, ceil_mode=True)
    pooled = b.avg_pool(pooled, 2, 1, count_include_pad=True)
    parts = b.split(pooled, (3, 5), name="yes")
    joined = b.concat((parts[1], b.unary(parts[0], "hardswish")))
    scaled = b.mul(joined, b.global_avg_pool(joined))
    scaled = b.batch_norm(b.binary("max", scaled, joined, constant=(8, 1, 1)), "silu")
    small = b.resize(b.slice(scaled, (2, 3), (0, 1), (8, None), (2, 1)), size=(4, 4))
    turned = b.slice(b.pad(small, (0, 0, 1, 1, 0, 0, 0, 0), "reflect"), 3, -1, None, -1)
    rows = b.transpose(b.reshape(turned, (0, 0, -1)), (0, 2, 1))
    words = b.embedding(ids, 50, 8)
    rows = b.layer_norm(b.gather(rows, axis=1, indices_shape=(6,)))
    words = b.slice(b.concat((words,), constants=[(1, (1, 2, 8))]), 1, 2)
    scores = b.softmax(b.matmul(words, rows, transpose_b=True))
    mixed = b.opaque((scores, words), "Mystery", (0, 6, 8), cycles=5)
    mixed = b.layer(
        "normalize", b.squeeze(b.layer("unsqueeze", mixed, axes=0)), mode="rms", axes=-1
    )
    b.output(b.reduce(b.linear(mixed, 4, activation="gelu"), "sum", 0, False), x)
    return b


def bare(network: Network) -> Network:
    """Without what a model file does not hold: names of folded nodes and aliases."""
    layers = tuple(replace(layer, folded=()) for layer in network.layers)
    return replace(network, aliases={}, layers=layers)


def test_reads_what_is_written(tmp_path: Path) -> None:
    network = read_model_yaml(written(tmp_path, SMALL))
    assert network.name == "small"
    assert [layer.name for layer in network.layers] == [
        "stem", "parts.0", "parts.1", "left", "gated", "fc",
    ]  # fmt: skip
    assert network.macs == 4 * 16 * 27 + 48 * 5
    assert next(layer for layer in network.layers if layer.name == "gated").cycles == 12


def test_builder_round_trip(tmp_path: Path) -> None:
    b = every_operator()
    text = network_to_yaml(b, "a comment\nof two lines")
    assert text.startswith("# a comment\n# of two lines\nname: ")
    again = read_model_builder(written(tmp_path, text))
    assert again.build(normalize=False) == b.build(normalize=False)
    assert network_to_yaml(again) == network_to_yaml(b)


@pytest.mark.parametrize("normalize", [False, True])
def test_network_round_trip(tmp_path: Path, normalize: bool) -> None:
    network = every_operator().build(normalize=normalize)
    again = read_model_builder(written(tmp_path, network_to_yaml(network))).build(normalize)
    assert bare(again) == bare(network)


def test_a_transposed_map_under_a_view_is_spelled_as_both(tmp_path: Path) -> None:
    builder = NetworkBuilder("heads")
    x = builder.transpose(builder.input("x", (1, 2, 6, 4)), (0, 2, 1, 3), name="joined")
    builder.output(builder.linear(builder.reshape(x, (0, 0, -1)), 5, name="out"))
    network = builder.build()
    again = read_model_yaml(written(tmp_path, network_to_yaml(network)))
    assert [layer.op for layer in again.layers] == [layer.op for layer in network.layers]
    assert [layer.output_shape for layer in again.layers] == [(1, 6, 8), (1, 6, 5)]


def test_any_order_of_layers(tmp_path: Path) -> None:
    text = SMALL.replace("- {name: stem,", "- {name: stem, inputs: image,")
    head, tail = text.split("layers:\n")
    lines = tail.splitlines(keepends=True)
    named = [
        line.replace("op:", f"inputs: [{source}], op:") if "inputs" not in line else line
        for line, source in zip(
            lines[:-1],
            ("image", "stem", "norm", "act", "parts.0", "", "gated", "flat"),
            strict=True,
        )
    ]
    shuffled = f"{head}layers:\n{''.join(reversed(named))}{lines[-1]}"
    expected = read_model_yaml(written(tmp_path, SMALL))
    assert read_model_yaml(written(tmp_path, shuffled)).macs == expected.macs


def test_batch_replaces_the_leading_extent(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL)
    network = read_model_yaml(path, batch=4)
    assert network.tensors["image"].shape == (4, 3, 8, 8)
    assert network.tensors["fc"].shape == (4, 5)
    assert network.macs == 4 * read_model_yaml(path).macs
    with pytest.raises(InputError, match="batch: must be a positive integer; found 0"):
        read_model_yaml(path, batch=0)


def test_outputs_default_to_what_nobody_reads(tmp_path: Path) -> None:
    network = read_model_yaml(written(tmp_path, SMALL.replace("outputs: [fc]\n", "")))
    assert network.outputs == ("fc",)


def test_batch_that_a_reshape_does_not_allow(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL.replace("shape: [0, -1]", "shape: [1, 48]"))
    assert read_model_yaml(path).macs
    with pytest.raises(InputError) as caught:
        read_model_yaml(path, batch=2)
    assert str(caught.value) == (f"{path}: flat.shape: cannot view (2, 3, 4, 4) so; found [1, 48]")


#: what is replaced in SMALL, by what, and what the message says after the file's name
MISTAKES = [
    ("op: relu6", "op: rellu6", "act.op: unknown operator (did you mean 'relu6'?); found 'rellu6'; "
     "allowed: conv, depthwise, conv_transpose, "),
    ("op: relu6", "op: 7", "act.op: unknown operator; found 7; allowed: conv, "),
    ("kernel: 3", "kernal: 3", "stem.kernal: unknown field; allowed: name, op, inputs, output, "
     "cycles, out_channels, kernel, stride, padding, dilation, bias, activation, groups"),
    ("kernel: 3, ", "", "stem.kernel: missing field; allowed: a positive integer, or a list of one "
     "for each spatial axis"),
    ("kernel: 3", "kernel: 0", "stem.kernel: value not accepted; found 0; allowed: a positive "
     "integer, or a list of one for each spatial axis"),
    ("kernel: 3", "kernel: [3, 3, 3]", "stem.kernel: wrong number of values; found [3, 3, 3]; "
     "allowed: 1 or 2 values"),
    ("kernel: 3", "kernel: null", "stem.kernel: the value is empty; allowed: a positive integer, "
     "or a list of one for each spatial axis"),
    ("stride: 2", "stride: 2.5", "stem.stride: value not accepted; found 2.5; allowed: a positive "
     "integer, or"),
    ("padding: 1", "padding: valid", "stem.padding: value not accepted; found 'valid'; allowed: "
     "same, an integer from 0,"),
    ("bias: false", "bias: maybe", "stem.bias: value not accepted; found 'maybe'; allowed: true "
     "or false"),
    ("bias: false", "groups: 3", "stem.groups: groups must divide the input's 3 and the output's "
     "4 channels; found 3"),
    ("bias: false", "activation: gelo", "stem.activation: value not accepted; found 'gelo'; "
     "allowed: relu, relu6, "),
    ("bias: false", "self: 1", "stem.self: unknown field; allowed: name, op, "),
    ("cycles: 12", "cycles: -1", "gated.cycles: value not accepted; found -1; allowed: a positive "
     "integer"),
    ("shape: [1, 3, 8, 8]", "shape: [1, 3, 0, 8]", "inputs.image.shape: value not accepted; found "
     "[1, 3, 0, 8]; allowed: a list of positive integers"),
    ("shape: [1, 3, 8, 8]", "shape: 8", "inputs.image.shape: value not accepted; found 8; allowed: "
     "a list of positive integers"),
    ("shape: [1, 3, 8, 8]", "shape: [batch, 3, 8, 8]", "inputs.image.shape: value not accepted; "
     "found ['batch', 3, 8, 8]; allowed: a list of positive integers"),
    ("{shape: [1, 3, 8, 8]}", "{size: [1, 3, 8, 8]}", "inputs.image.size: unknown field; allowed: "
     "shape, dtype"),
    ("{shape: [1, 3, 8, 8]}", "[1, 3, 8, 8]", "inputs.image: must be a mapping; found [1, 3, 8, 8];"
     " allowed: shape, dtype"),
    ("{shape: [1, 3, 8, 8]}", "{shape: [1, 3, 8, 8], dtype: int4}", "inputs.image.dtype: unknown "
     "element type; found 'int4'; allowed: bool, int8, "),
    ("dtype: int8", "dtype: int4", "dtype: unknown element type; found 'int4'; allowed: int8, "
     "int16, float16, float32"),
    ("dtype: int8", "type: int8", "type: unknown field; allowed: name, dtype, inputs, layers, "
     "outputs"),
    ("name: small\n", "", "name: missing field"),
    ("name: small", "name: [small]", "name: must be a text; found ['small']"),
    ("[left, parts.1]", "[left, part.1]", "gated.inputs: this tensor is defined nowhere (did you "
     "mean 'parts.1'?); found 'part.1'; allowed: the name of a layer or of a network input"),
    ("[left, parts.1]", "[left, parts]", "gated.inputs: this is a split; name one of its parts; "
     "found 'parts'; allowed: parts.0, parts.1"),
    ("[left, parts.1]", "[left, 3]", "gated.inputs: must be a name or a list of names; found "
     "['left', 3]"),
    (", inputs: [parts.0]", "", "left.inputs: missing field: what stands above is not one tensor; "
     "allowed: parts.0, parts.1"),
    ("inputs: [parts.0]", "inputs: [gated]", "the graph has a cycle: "),
    ("name: norm", "name: stem", "stem: this name is used twice; found 'stem'"),
    ("name: norm", "name: image", "image: this name is used twice; found 'image'"),
    ("name: norm, ", "", "layers[1].name: missing field"),
    ("name: norm, op: batch_norm", "name: norm", "layers[1].op: missing field"),
    ("- {name: norm, op: batch_norm}", "- norm", "layers[1]: must be a mapping; found 'norm'; "
     "allowed: name, op and the operator's fields"),
    ("sizes: [1, 3]", "sizes: [1, 2]", "parts.sizes: the sizes must add up to the 4 of axis 1; "
     "found [1, 2]"),
    ("sizes: [1, 3]", "sizes: 2", "parts.sizes: value not accepted; found 2; allowed: a list of "
     "positive integers"),
    (", sizes: [1, 3]", "", "parts.sizes: missing field; allowed: a list of positive integers"),
    ("shape: [0, -1]", "shape: [0, 7]", "flat.shape: cannot view (1, 3, 4, 4) so; found [0, 7]"),
    ("[left, parts.1]", "[parts.1, stem]", "gated: shapes do not broadcast; found "
     "((1, 3, 4, 4), (1, 4, 4, 4))"),
    ("outputs: [fc]", "outputs: [fd]", "outputs: this tensor is defined nowhere; found 'fd'; "
     "allowed: the name of a layer or of a network input"),
    ("outputs: [fc]", "outputs: [fc, fc]", "outputs: this output is named twice; found 'fc'"),
    ("name: act,", "name: act, name: act,", "not valid YAML: line 8, column 15: the key 'name' is "
     "written twice"),
    ("padding: 1, bias: false}", "padding: 1, bias: false", "not valid YAML: line 7, column "),
    ("[1, 3, 8, 8]", "[1, 3, 8, 8", "not valid YAML: line 4, column "),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES, ids=[row[2][:40] for row in MISTAKES])
def test_mistake(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert SMALL.count(old) == 1
    path = written(tmp_path, SMALL.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_model_yaml(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: {message}")
    assert "\n" not in text


def test_cycle_names_its_layers(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL.replace("inputs: [parts.0]", "inputs: [gated]"))
    with pytest.raises(InputError) as caught:
        read_model_yaml(path)
    assert str(caught.value) in (
        f"{path}: the graph has a cycle: left -> gated -> left",
        f"{path}: the graph has a cycle: gated -> left -> gated",
    )


FILES: list[tuple[str | bytes, str]] = [
    ("", "the file is empty"),
    ("# only a comment\n", "the file is empty"),
    ("just a text", "must be a mapping; found 'just a text'; allowed: name, dtype, inputs, layers, "
     "outputs"),
    ("[1, 2]", "must be a mapping; found [1, 2]; allowed: name, dtype, inputs, layers, outputs"),
    ("name: n\ninputs: {x: {shape: [1]}}\n", "layers: missing field"),
    ("name: n\nlayers: [{name: a, op: relu}]\n", "inputs: missing field"),
    ("name: n\ninputs: {}\nlayers: []\n", "inputs: the network needs at least one input"),
    ("name: n\ninputs: {x: {shape: [1]}}\nlayers: []\n", "layers: must be a list of layers; found "
     "[]; allowed: a list of mappings with name and op"),
    ("name: n\ninputs: {x: {shape: [1]}, 3: {shape: [1]}}\nlayers: []\n", "inputs: every key must "
     "be a text; found 3"),
    (bytes(range(256)) * 4, "is not a text file"),
    (b"\x89PNG\r\n\x1a\n\x00\x00", "is not a text file"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), FILES, ids=[row[1][:30] for row in FILES])
def test_file_that_is_no_model(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_model_yaml(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such file"):
        read_model_yaml(tmp_path / "nowhere.yaml")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.sampled_from(["", "x", "fc"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "op", "self", "shape"]) | st.integers(), inner)
    ),
    max_leaves=4,
)


@settings(
    max_examples=150, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.data())
def test_any_damage_is_one_input_error_or_a_network(tmp_path: Path, data: st.DataObject) -> None:
    """Replace one value anywhere in a good file by anything: never another exception."""
    model = yaml.safe_load(SMALL)
    holder: dict[object, object] | list[object] = model
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = data.draw(st.sampled_from(keys))
        inner = holder[key]  # type: ignore[index, call-overload]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            break
        holder = inner
    holder[key] = data.draw(JUNK)  # type: ignore[index, call-overload]
    path = written(tmp_path, yaml.safe_dump(model))
    try:
        outcome: object = read_model_yaml(path)
    except InputError as error:
        outcome = error.file
    assert isinstance(outcome, Network) or outcome == str(path)
