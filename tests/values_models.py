"""Small ONNX models for the tests of values: built, read as networks, and run both ways."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from values_oracle import dequantise, quantise, run

from spm_opt.formats.onnx_reader import read_onnx
from spm_opt.formats.onnx_values import read_values
from spm_opt.graph.network import Network
from spm_opt.graph.values import NetworkValues

Array = NDArray[Any]


class Model:
    """An ONNX model under construction; the result of the last node is its output."""

    def __init__(self, *shape: int | str, opset: int = 17, elem: int = 1) -> None:
        self.opset = opset
        self.inputs = [helper.make_tensor_value_info("x", elem, shape)]
        self.outputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(7)

    def const(self, value: object, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype=dtype), name))
        return name

    def weight(self, *shape: int, positive: bool = False) -> str:
        value = self.rng.standard_normal(shape)
        return self.const(np.abs(value) + 0.3 if positive else value)

    def integers(self, *shape: int, low: int = -90, high: int = 90, dtype: Any = np.int8) -> str:
        return self.const(self.rng.integers(low, high, shape), dtype)

    def input(self, name: str, *shape: int, elem: int = 1) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, elem, shape))
        return name

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(
            helper.make_node(kind, inputs, names, name=f"n{len(self.nodes)}", **attributes)
        )
        return names[0] if outputs == 1 else names

    def batch_norm(self, source: str, channels: int) -> str:
        numbers = [self.weight(channels, positive=i in (0, 3)) for i in range(4)]
        return self.node("BatchNormalization", source, *numbers, epsilon=1e-3)

    def through(self, source: str, scale: float, zero: int = 0, dtype: Any = np.int8) -> str:
        """Quantise and dequantise."""
        numbers = self.const(scale), self.const(zero, dtype)
        return self.node(
            "DequantizeLinear", self.node("QuantizeLinear", source, *numbers), *numbers
        )

    def stored(self, name: str, scale: object, zero: object = None, axis: int = 0) -> str:
        """Dequantise a constant of integers."""
        numbers = [self.const(scale)]
        if zero is not None:
            numbers.append(self.const(zero, np.int8))
        return self.node("DequantizeLinear", name, *numbers, axis=axis)

    def proto(self, *outputs: str) -> onnx.ModelProto:
        names = outputs or (self.nodes[-1].output[0],)
        values = [helper.make_empty_tensor_value_info(name) for name in names]
        graph = helper.make_graph(self.nodes, "model", self.inputs, values, self.constants)
        imports = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=9)

    def save(self, folder: Path, *outputs: str) -> Path:
        path = folder / "model.onnx"
        onnx.save(self.proto(*outputs), path)
        return path


def sample(network: Network, model: onnx.ModelProto, seed: int = 1) -> dict[str, Array]:
    """Inputs of the model in its own element types, of the shapes that the network has."""
    rng = np.random.default_rng(seed)
    found = {}
    for value in model.graph.input:
        if value.name not in network.tensors:
            continue
        shape = network.tensors[value.name].shape
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if np.issubdtype(dtype, np.floating):
            found[value.name] = rng.standard_normal(shape).astype(dtype)
        else:
            found[value.name] = rng.integers(0, 5, shape).astype(dtype)
    return found


def reference(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """Outputs of the model by onnxruntime where it is installed, else by onnx itself."""
    try:
        import onnxruntime
    except ImportError:
        found = ReferenceEvaluator(model).run(None, dict(inputs))
        return [np.asarray(output) for output in found]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # in reals, as the operators are defined: integer kernels saturate on some processors
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return list(session.run(None, dict(inputs)))


def stored_inputs(
    network: Network, values: NetworkValues, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """Inputs in the types in which the network keeps them."""
    found = {}
    for name in network.inputs:
        how, dtype = values.tensors[name], network.tensors[name].dtype
        keeps = str(inputs[name].dtype) == dtype
        found[name] = inputs[name] if keeps else quantise(inputs[name], dtype, how)
    return found


class Outcome:
    """A model as network and values, run by the oracle and by ONNX's reference."""

    def __init__(self, path: Path, batch: int | None = None) -> None:
        self.network = read_onnx(path, batch=batch)
        self.values = read_values(path, self.network)
        self.model = onnx.load(path)
        inputs = sample(self.network, self.model)
        self.maps = run(self.network, self.values, stored_inputs(self.network, self.values, inputs))
        if batch is None:
            names = [value.name for value in self.model.graph.output]
            results = reference(self.model, inputs)
            self.expected: dict[str, Array] = dict(zip(names, results, strict=True))

    @property
    def kinds(self) -> list[str]:
        return [layer.op.kind for layer in self.network.layers]

    def real(self, name: str) -> Array:
        """A network output by its name in the file, in reals."""
        tensor = self.network.aliases.get(name, name)
        shape = self.expected[name].shape
        return dequantise(self.maps[tensor], self.values.tensors[tensor]).reshape(shape)

    def difference(self) -> float:
        """Largest difference of any output, relative to its largest value."""
        worst = 0.0
        for name, expected in self.expected.items():
            wanted = np.asarray(expected, dtype=np.float64)
            top = np.abs(wanted).max() or 1.0
            worst = max(worst, float(np.abs(self.real(name) - wanted).max() / top))
        return worst

    def quanta(self) -> float:
        """Largest difference of any output, in units of its scale."""
        worst = 0.0
        for name, expected in self.expected.items():
            how = self.values.tensors[self.network.aliases.get(name, name)]
            assert how is not None, name
            gap = np.abs(self.real(name) - expected).max() / how.scale
            worst = max(worst, float(gap))
        return worst


def outcome(model: Model, folder: Path, *outputs: str, batch: int | None = None) -> Outcome:
    return Outcome(model.save(folder, *outputs), batch)
