"""Whole networks, from the file to a checked plan: a few always, all of them with ``-m heavy``.

`spm_opt.solve` raises where the checker rejects a plan, so every result here is verified; what is
asserted besides is what a user would notice: the network is the one in the file, the scratchpad
holds, and the numbers keep to their limits.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import spm_opt
from spm_opt.api import load_network

ROOT = Path(__file__).resolve().parent.parent
ONNX = ROOT.parent / "shared" / "onnx"
CATALOGUE = sorted(path.stem for path in (ROOT / "models").glob("*.yaml"))
#: the catalogue's model of the same network
TWINS = {
    "ae_toycar": None,
    "alexnet": None,  # torchvision's, without groups
    "bert_small": None,
    "densenet121": "densenet121",
    "dscnn_kws": None,
    "efficientnet_b0": "efficientnet_b0",
    "inception_v3": "inception_v3",
    "mobilenetv2_100": "mobilenet_v2",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "squeezenet1_1": "squeezenet1_1",
    "unet_256": None,  # another input
    "vgg16": "vgg16",
    "vit_small_p16": "vit_s_16",
}
#: the smallest of each sort; the heavy sweep has the others
QUICK_MODELS = ("mobilenet_v1",)
OTHER_MODELS = ("gpt2_small_decode", "squeezenet1_1")
QUICK_FILES = ("ae_toycar", "dscnn_kws")


def onnx_file(stem: str) -> Path:
    """Path of a file, or skip."""
    for folder in (ONNX, ONNX / "graphs"):
        if (folder / f"{stem}.onnx").exists():
            return folder / f"{stem}.onnx"
    pytest.skip(f"{stem}.onnx is not beside this checkout")


def planned(model: str | Path, time_limit: float = 60.0) -> spm_opt.Result:
    """A plan, whose figures keep to their limits."""
    result = spm_opt.solve(model, "mobile_npu", time_limit=time_limit)
    assert result.verified
    assert spm_opt.check(result) == ()
    assert result.status in ("optimal", "feasible")
    assert (result.gap == 0) == (result.status == "optimal")
    assert result.roofline_cycles <= result.latency_cycles
    assert result.latency_lower_bound_cycles <= result.latency_cycles
    assert result.spm_peak_bytes <= result.spm_capacity_bytes
    return result


def assert_same_work(result: spm_opt.Result, stem: str) -> None:
    """Where the catalogue has the same network, it has the same multiply-accumulates."""
    twin = TWINS[stem]
    if twin is not None:
        assert result.macs == pytest.approx(load_network(twin).macs, rel=0.01)


@pytest.mark.parametrize("stem", QUICK_FILES)
def test_a_small_file_is_planned(stem):
    assert_same_work(planned(onnx_file(stem)), stem)


@pytest.mark.parametrize("name", QUICK_MODELS)
def test_a_small_model_is_planned_within_two_percent_of_what_is_possible(name):
    assert planned(name).gap <= 0.02


@pytest.mark.heavy
@pytest.mark.parametrize("name", OTHER_MODELS)
def test_another_model_is_planned_within_two_percent_of_what_is_possible(name):
    assert planned(name).gap <= 0.02


def test_every_file_beside_the_checkout_is_in_the_sweep():
    if not ONNX.exists():
        pytest.skip("no ONNX files beside this checkout")
    assert {path.stem for path in ONNX.rglob("*.onnx")} == set(TWINS)


@pytest.mark.heavy
@pytest.mark.parametrize("stem", TWINS)
def test_every_file_is_planned(stem):
    assert_same_work(planned(onnx_file(stem)), stem)


@pytest.mark.heavy
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_catalogue_model_is_planned(name):
    planned(name)
