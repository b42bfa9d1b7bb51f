"""The catalogue's models: published counts, batches, and files that never drift."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from spm_opt.formats.model_yaml import network_to_yaml, read_model_builder, read_model_yaml
from spm_opt.graph.network import Network
from spm_opt.graph.ops import Conv, MatMul

MODELS = Path(__file__).parent.parent / "models"

#: GMACs (convolutions, linear layers, attention), millions of parameters: published values
COUNTS = {
    "alexnet": (0.724, 61.0),
    "vgg16": (15.47, 138.4),
    "vgg19": (19.63, 143.7),
    "squeezenet1_1": (0.349, 1.24),
    "googlenet": (1.50, 6.62),
    "inception_v3": (5.71, 23.8),
    "resnet18": (1.81, 11.7),
    "resnet50": (4.09, 25.6),
    "resnet101": (7.80, 44.5),
    "densenet121": (2.83, 7.98),
    "mobilenet_v1": (0.569, 4.23),
    "mobilenet_v2": (0.301, 3.50),
    "mobilenet_v3_large": (0.217, 5.48),
    "efficientnet_b0": (0.386, 5.29),
    "vit_s_16": (4.6, 22.1),
    "gpt2_small_prefill": (4.03, 7.08),
    # 12 * (12 * 768^2 * 128 + 2 * 128^2 * 768) + 768^2; 110 M less 384 unused positions
    "bert_base": (11.17, 109.2),
    # facenet-pytorch without its classifier: 23,482,624
    "inception_resnet_v1": (1.418, 23.48),
    "unet": (48.1, 31.03),
    # 12 * 768^2 + 2 * 513 * 768
    "gpt2_small_decode": (0.007866, 7.088),
}
#: networks of camera size, outside the catalogue; FSRCNN: 1920 * 1080 *
#: (56*25 + 56*12 + 4*12*12*9 + 12*56 + 56*4*25), where 9x9 taps over 2x2 outputs are 5x5 for each
CAMERA = {"fsrcnn_1080p": (28.05, 0.0126), "linknet_4k": (357.0, 11.53)}
#: parameters to the last one, before batch normalisations are folded (torchvision's counts)
EXACT = {
    "vgg16": 138_357_544, "vgg19": 143_667_240, "squeezenet1_1": 1_235_496,
    "resnet18": 11_689_512, "resnet50": 25_557_032, "resnet101": 44_549_160,
    "densenet121": 7_978_856, "mobilenet_v2": 3_504_872, "mobilenet_v3_large": 5_483_032,
    "efficientnet_b0": 5_288_548, "googlenet": 6_624_904, "inception_resnet_v1": 23_482_624,
}  # fmt: skip


@cache
def read(name: str) -> Network:
    return read_model_yaml(MODELS / f"{name}.yaml")


def test_every_file_is_counted() -> None:
    assert sorted(path.stem for path in MODELS.glob("*.yaml")) == sorted(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_published_counts(name: str) -> None:
    network = read(name)
    gmacs, millions = COUNTS[name]
    assert network.name == name
    assert network.macs / 1e9 == pytest.approx(gmacs, rel=0.01)
    assert network.parameters / 1e6 == pytest.approx(millions, rel=0.01)
    assert not network.warnings


@pytest.mark.parametrize("name", CAMERA)
def test_counts_at_camera_size(name: str) -> None:
    network = read(f"camera/{name}")
    gmacs, millions = CAMERA[name]
    assert network.macs / 1e9 == pytest.approx(gmacs, rel=0.01)
    assert network.parameters / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("name", EXACT)
def test_exact_parameters_before_folding(name: str) -> None:
    raw = read_model_builder(MODELS / f"{name}.yaml").build(normalize=False)
    assert raw.parameters == EXACT[name]


def test_parts_of_the_counts() -> None:
    convs = sum(layer.macs for layer in read("alexnet").layers if isinstance(layer.op, Conv))
    assert convs / 1e9 == pytest.approx(0.666, rel=0.01)
    products = {
        name: sum(layer.macs for layer in read(name).layers if isinstance(layer.op, MatMul))
        for name in ("vit_s_16", "gpt2_small_prefill")
    }
    assert (read("vit_s_16").macs - products["vit_s_16"]) / 1e9 == pytest.approx(4.24, rel=0.01)
    # one block: 4,026,531,840 MACs, 7,077,888 weights besides biases and normalisations
    assert read("gpt2_small_prefill").macs == 4_026_531_840
    assert products["gpt2_small_prefill"] == 2 * 512 * 512 * 768
    kernels = [
        weight.elements
        for layer in read("gpt2_small_prefill").layers
        for weight in layer.weights
        if len(weight.shape) == 2
    ]
    assert sum(kernels) == 7_077_888


@pytest.mark.parametrize("name", COUNTS)
def test_batch(name: str) -> None:
    one, three = read(name), read_model_yaml(MODELS / f"{name}.yaml", batch=3)
    assert three.macs == 3 * one.macs
    assert three.parameters == one.parameters
    assert len(three.layers) == len(one.layers)


def test_batch_norms_and_activations_are_folded() -> None:
    assert len(read("mobilenet_v2").layers) == 64  # 52 convolutions, 10 additions, pool, linear
    kinds = [layer.op.kind for layer in read("resnet50").layers]
    assert (kinds.count("conv"), kinds.count("binary"), len(kinds)) == (53, 16, 72)
    # a dense layer's first normalisation reads a joined map and stays
    assert sum(layer.op.kind == "batch_norm" for layer in read("densenet121").layers) == 62


@pytest.mark.parametrize("name", ["densenet121", "bert_base", "gpt2_small_decode"])
def test_written_network_reads_back(name: str, tmp_path: Path) -> None:
    raw = read_model_builder(MODELS / f"{name}.yaml").build(normalize=False)
    path = tmp_path / "again.yaml"
    path.write_text(network_to_yaml(raw), "utf-8")
    assert read_model_builder(path).build(normalize=False) == raw


@pytest.fixture
def drifted(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], list[str]]:
    monkeypatch.syspath_prepend(str(MODELS))
    import build_catalogue  # type: ignore[import-not-found, unused-ignore]

    module: Any = build_catalogue
    return lambda changes: list(module.drifted({**module.catalogue(), **changes}))


def test_files_are_what_the_script_writes() -> None:
    done = subprocess.run(
        [sys.executable, str(MODELS / "build_catalogue.py"), "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_drift_is_seen(drifted: Callable[[dict[str, str]], list[str]]) -> None:
    assert drifted({}) == []
    assert drifted({"vgg16.yaml": "name: other"}) == ["vgg16.yaml"]
    assert drifted({"new.yaml": "name: new"}) == ["new.yaml"]
