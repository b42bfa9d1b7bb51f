"""Values of whole ONNX files, run by the oracle and by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from values_models import Outcome

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "onnx"

HEAVY = pytest.mark.heavy


def shared(name: str) -> Path:
    pytest.importorskip("onnxruntime", reason="the second opinion is onnxruntime's")
    path = SHARED / f"{name}.onnx"
    if not path.exists():
        pytest.skip("the shared ONNX files are not here")
    return path


@pytest.mark.parametrize(
    "name",
    ["ae_toycar", "dscnn_kws", "squeezenet1_1", "mobilenetv2_100",
     pytest.param("unet_256", marks=HEAVY)],
)  # fmt: skip
def test_file_with_its_own_weights(name: str) -> None:
    assert Outcome(shared(name)).difference() <= 1e-5


def test_every_file_with_weights_is_tested() -> None:
    if not SHARED.exists():
        pytest.skip("the shared ONNX files are not here")
    tested = {"ae_toycar", "dscnn_kws", "squeezenet1_1", "mobilenetv2_100", "unet_256"}
    assert {path.stem for path in SHARED.glob("*.onnx")} == tested


def filled(path: Path, folder: Path) -> Path:
    """The model with drawn numbers in place of the weights that it came without."""
    model = onnx.load(path, load_external_data=False)
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        shape = tuple(tensor.dims)
        if len(shape) < 2:
            # scales and variances among them must be positive
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.standard_normal(shape) * np.sqrt(shape[0] / np.prod(shape))
        tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
    onnx.save(model, folder / path.name)
    return folder / path.name


@pytest.mark.parametrize(
    "name",
    ["bert_small", "efficientnet_b0", pytest.param("densenet121", marks=HEAVY),
     pytest.param("inception_v3", marks=HEAVY), pytest.param("resnet18", marks=HEAVY),
     pytest.param("vit_small_p16", marks=HEAVY)],
)  # fmt: skip
def test_file_with_drawn_weights(name: str, tmp_path: Path) -> None:
    assert Outcome(filled(shared(f"graphs/{name}"), tmp_path)).difference() <= 1e-4
