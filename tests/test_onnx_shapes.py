"""Shapes and work of single operators, against onnxruntime running the same node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from spm_opt.formats.network_json import network_from_dict, network_to_dict
from spm_opt.formats.onnx_graph import load_model, network_of
from spm_opt.formats.onnx_reader import read_onnx

F = np.float32
INT_MAX = 2**63 - 1


def f(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random(shape, dtype=F)


def i(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.int64)


#: label, operator, opset, shape of the input, further (constant) inputs, attributes
Case = tuple[str, str, int, tuple[int, ...], list[Any], dict[str, Any]]
CASES: list[Case] = [
    ("conv", "Conv", 11, (1, 3, 9, 11), [f(4, 3, 3, 2)], {}),
    ("conv-same-upper", "Conv", 17, (1, 3, 9, 10), [f(4, 3, 3, 4)],
     {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    ("conv-same-lower", "Conv", 17, (1, 3, 9, 10), [f(4, 3, 4, 3)],
     {"auto_pad": "SAME_LOWER", "strides": [2, 1]}),
    ("conv-valid", "Conv", 17, (1, 3, 9, 10), [f(4, 3, 3, 3)], {"auto_pad": "VALID"}),
    ("conv-dilated-grouped", "Conv", 13, (2, 4, 12, 9), [f(6, 2, 3, 3), f(6)],
     {"group": 2, "dilations": [2, 1], "pads": [0, 1, 2, 3]}),
    ("conv-1d", "Conv", 17, (1, 3, 9), [f(4, 3, 3)], {"pads": [1, 0]}),
    ("conv-3d", "Conv", 17, (1, 3, 5, 6, 7), [f(4, 3, 3, 2, 1)], {}),
    ("convt", "ConvTranspose", 11, (1, 3, 5, 6), [f(3, 2, 3, 3), f(2)],
     {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 0], "group": 1}),
    ("convt-shape", "ConvTranspose", 17, (1, 3, 5, 6), [f(3, 2, 3, 3)],
     {"strides": [2, 2], "output_shape": [10, 12]}),
    ("convt-same", "ConvTranspose", 17, (1, 3, 5, 6), [f(3, 2, 3, 3)],
     {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("gemm", "Gemm", 13, (2, 6), [f(6, 5), f(5)], {}),
    ("gemm-transposed", "Gemm", 13, (6, 2), [f(5, 6), f(1, 5)],
     {"transA": 1, "transB": 1, "alpha": 0.5}),
    ("gemm-matrix-bias", "Gemm", 13, (2, 6), [f(6, 5), f(2, 5)], {}),
    ("gemm-scalar-bias", "Gemm", 13, (2, 6), [f(6, 5), f(1)], {}),
    ("matmul", "MatMul", 13, (2, 3, 6), [f(6, 5)], {}),
    ("matmul-vector", "MatMul", 13, (2, 3, 6), [f(6)], {}),
    ("matmul-of-vector", "MatMul", 13, (6,), [f(6, 5)], {}),
    ("matmul-one-batch", "MatMul", 13, (3, 6), [f(1, 6, 5)], {}),
    ("maxpool-ceil", "MaxPool", 12, (1, 2, 8, 9), [],
     {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("maxpool-ceil-pad", "MaxPool", 17, (1, 2, 7, 7), [],
     {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ("maxpool-dilated", "MaxPool", 17, (1, 2, 9, 9), [],
     {"kernel_shape": [3, 3], "dilations": [2, 2]}),
    ("avgpool-same", "AveragePool", 17, (1, 2, 9, 9), [],
     {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("global", "GlobalAveragePool", 17, (1, 2, 9, 9), [], {}),
    ("globalmax", "GlobalMaxPool", 17, (1, 2, 9, 9), [], {}),
    ("mean-attribute", "ReduceMean", 13, (1, 2, 9, 9), [], {"axes": [2, -1], "keepdims": 0}),
    ("mean-input", "ReduceMean", 18, (1, 2, 9, 9), [i(2, 3)], {}),
    ("mean-all", "ReduceMean", 18, (1, 2, 9), [], {"keepdims": 0}),
    ("sum-input", "ReduceSum", 13, (1, 2, 9, 9), [i(-1)], {"keepdims": 0}),
    ("sum-noop", "ReduceSum", 13, (1, 2, 9), [], {"noop_with_empty_axes": 1}),
    ("l2", "ReduceL2", 13, (1, 2, 9), [], {"axes": [1]}),
    ("argmax", "ArgMax", 13, (1, 2, 9), [], {"axis": -1, "keepdims": 0}),
    ("softmax-11", "Softmax", 11, (2, 3, 4), [], {}),
    ("softmax-13", "Softmax", 13, (2, 3, 4), [], {}),
    ("logsoftmax", "LogSoftmax", 13, (2, 3, 4), [], {"axis": 1}),
    ("layernorm", "LayerNormalization", 17, (2, 3, 4), [f(3, 4), f(3, 4)], {"axis": 1}),
    ("groupnorm", "GroupNormalization", 21, (2, 4, 3, 3), [f(4), f(4)], {"num_groups": 2}),
    ("instancenorm", "InstanceNormalization", 17, (2, 4, 3, 3), [f(4), f(4)], {}),
    ("lrn", "LRN", 13, (1, 4, 3, 3), [], {"size": 3}),
    ("lpnorm", "LpNormalization", 13, (1, 4, 3), [], {"axis": 1}),
    ("add-broadcast-up", "Add", 13, (4, 1), [f(3, 1, 5)], {}),
    ("pow", "Pow", 13, (4, 2), [np.array(2, F)], {}),
    ("sum-variadic", "Sum", 13, (4, 2), [f(2), f(1, 1)], {}),
    ("clip", "Clip", 11, (4, 2), [np.array(0, F), np.array(6, F)], {}),
    ("prelu", "PRelu", 13, (1, 4, 3, 3), [f(4, 1, 1)], {}),
    ("equal", "Equal", 13, (4, 2), [f(4, 2)], {}),
    ("pad-input", "Pad", 13, (1, 2, 5, 5), [i(0, 0, 1, 2, 0, 0, 3, 4)], {}),
    ("pad-crop", "Pad", 13, (1, 2, 5, 5), [i(0, 0, -1, 2, 0, 0, 3, -1)], {}),
    ("pad-axes", "Pad", 18, (1, 2, 5, 5), [i(1, 2), np.array(0, F), i(-1)], {"mode": "constant"}),
    ("pad-reflect", "Pad", 17, (1, 2, 5, 5), [i(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "reflect"}),
    ("reshape", "Reshape", 13, (2, 3, 4), [i(0, -1)], {}),
    ("flatten", "Flatten", 13, (2, 3, 4), [], {"axis": 2}),
    ("flatten-0", "Flatten", 13, (2, 3, 4), [], {"axis": 0}),
    ("squeeze-attribute", "Squeeze", 11, (1, 3, 1), [], {"axes": [0]}),
    ("squeeze-all", "Squeeze", 13, (1, 3, 1), [], {}),
    ("unsqueeze", "Unsqueeze", 13, (3, 4), [i(0, -1)], {}),
    ("transpose", "Transpose", 13, (2, 3, 4), [], {}),
    ("transpose-perm", "Transpose", 13, (2, 3, 4), [], {"perm": [1, 0, 2]}),
    ("slice", "Slice", 13, (9, 8, 7), [i(1, -3), i(INT_MAX, -1), i(0, 2)], {}),
    ("slice-reverse", "Slice", 13, (9, 8), [i(-1), i(-INT_MAX), i(1), i(-2)], {}),
    ("slice-step", "Slice", 13, (9, 8), [i(1), i(100), i(0), i(3)], {}),
    ("slice-attribute", "Slice", 9, (9, 8), [], {"starts": [2], "ends": [-2], "axes": [1]}),
    ("gather-scalar", "Gather", 13, (4, 5, 6), [np.array(-1, np.int64)], {"axis": 1}),
    ("gather-run", "Gather", 13, (4, 5, 6), [i(4, 3, 2, 1, 0)], {"axis": 1}),
    ("gather-any", "Gather", 13, (4, 5, 6), [i(0, 3, 1)], {"axis": 1}),
    ("gather-matrix", "Gather", 13, (4, 5), [np.array([[0, 2], [1, 1]], np.int64)], {"axis": 0}),
    ("expand", "Expand", 13, (3, 1), [i(2, 1, 6)], {}),
    ("tile", "Tile", 13, (1, 2, 3), [i(4, 2, 1)], {}),
    ("resize-scales", "Resize", 13, (1, 2, 5, 6), [np.array([], F), np.array([1, 1, 2, 1.5], F)],
     {"mode": "linear"}),
    ("resize-sizes", "Resize", 13, (1, 2, 5, 6),
     [np.array([], F), np.array([], F), i(1, 2, 7, 9)], {}),
    ("resize-10", "Resize", 10, (1, 2, 5, 6), [np.array([1, 1, 2, 2], F)], {"mode": "nearest"}),
    ("upsample", "Upsample", 9, (1, 2, 5, 6), [np.array([1, 1, 2, 3], F)], {"mode": "nearest"}),
    ("depth-to-space", "DepthToSpace", 13, (1, 8, 3, 4), [], {"blocksize": 2, "mode": "CRD"}),
    ("space-to-depth", "SpaceToDepth", 13, (1, 2, 4, 6), [], {"blocksize": 2}),
    ("cast", "Cast", 13, (2, 3), [], {"to": TensorProto.INT64}),
    ("concat", "Concat", 13, (1, 2, 4), [f(1, 3, 4)], {"axis": 1}),
]  # fmt: skip


def write(folder: Path, graph: onnx.GraphProto, opset: int) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def single(case: Case) -> onnx.GraphProto:
    _, kind, _, shape, constants, attributes = case
    names = [f"c{k}" if np.size(value) else "" for k, value in enumerate(constants)]
    node = helper.make_node(kind, ["x", *names], ["y"], "the_node", **attributes)
    after = helper.make_node("Identity", ["y"], ["z"])
    value = helper.make_tensor_value_info
    elem = {"ArgMax": 7, "Equal": 9, "Cast": 7}.get(kind, 1)
    return helper.make_graph(
        [node, after], "g", [value("x", 1, shape)], [value("z", elem, None)],
        [numpy_helper.from_array(v, n) for v, n in zip(constants, names, strict=True) if n],
    )  # fmt: skip


#: onnx's reference implementation refuses these or gives them another shape than its runtime
NOT_IN_REFERENCE = ("convt-shape", "pad-crop", "resize-10")


def run(label: str, path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The model's result, by onnxruntime or, where that is absent, onnx's own reference."""
    try:
        from onnxruntime import InferenceSession
    except ImportError:
        if label in NOT_IN_REFERENCE:
            pytest.skip("onnxruntime is not installed")
        return ReferenceEvaluator(str(path)).run(None, {"x": x})[0]
    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_shape_of_operator_is_that_of_its_result(case: Case, tmp_path: Path) -> None:
    path = write(tmp_path, single(case), case[2])
    expected = run(case[0], path, f(*case[3]))
    raw = network_of(load_model(str(path)), str(path), None, {})
    assert raw.tensors["z"].shape == expected.shape
    assert raw.tensors["z"].dtype == str(expected.dtype)
    network = read_onnx(path)
    assert not network.warnings
    assert network.tensors[network.outputs[0]].size_bytes == raw.tensors["z"].size_bytes
    # numbers are Python's own, not numpy's
    assert network_from_dict(json.loads(json.dumps(network_to_dict(network)))) == network
