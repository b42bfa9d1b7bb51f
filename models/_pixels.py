"""Networks that make images of images, at the sizes of cameras: FSRCNN, LinkNet."""

from __future__ import annotations

from _blocks import conv_bn, norm_act
from _classic import basic_block

from spm_opt.graph.builder import Handle, NetworkBuilder


def fsrcnn_1080p(b: NetworkBuilder) -> None:
    """Dong et al. 2016, FSRCNN(56, 12, 4): 1920x1080 luminance to 3840x2160; plain
    rectifiers in the place of learned slopes."""
    x = b.input("input", (1, 1, 1080, 1920))
    x = b.relu(b.conv(x, 56, 5, padding=2, name="feature"), name="feature.relu")
    x = b.relu(b.conv(x, 12, 1, name="shrink"), name="shrink.relu")
    for i in range(4):
        x = b.relu(b.conv(x, 12, 3, padding=1, name=f"map.{i}"), name=f"map.{i}.relu")
    x = b.relu(b.conv(x, 56, 1, name="expand"), name="expand.relu")
    b.output(b.conv_transpose(x, 1, 9, 2, 4, 1, name="deconv"))


def linknet_4k(b: NetworkBuilder) -> None:
    """Chaurasia and Culurciello 2017: a ResNet-18 encoder, four decoders that add the encoders'
    outputs; 3840x2176 (2160 rows padded to a multiple of 32), 19 classes."""
    x = b.input("input", (1, 3, 2176, 3840))
    x = conv_bn(b, x, "", 64, 7, 2, parts=("conv1", "bn1", "relu"))
    x = b.max_pool(x, 3, 2, 1, name="maxpool")
    skips: list[Handle] = []
    for stage in range(4):
        skips.append(x)
        for i in range(2):
            stride = 2 if stage > 0 and i == 0 else 1
            x = basic_block(b, x, f"layer{stage + 1}.{i}", 64 << stage, stride)
    for stage in (4, 3, 2, 1):
        skip = skips[stage - 1]
        x = _decoder(b, x, f"decoder{stage}", skip.shape[1], 1 if stage == 1 else 2)
        x = b.add(x, skip, name=f"decoder{stage}.add") if stage > 1 else x
    x = _upward(b, x, "full", 32, "full.relu")
    x = conv_bn(b, x, "last", 32, 3)
    b.output(b.conv_transpose(x, 19, 2, 2, name="classes"))


def _decoder(b: NetworkBuilder, x: Handle, name: str, out: int, stride: int) -> Handle:
    inner = x.shape[1] // 4
    x = conv_bn(b, x, f"{name}.narrow", inner, 1)
    if stride == 1:
        x = conv_bn(b, x, f"{name}.same", inner, 3)
    else:
        x = _upward(b, x, f"{name}.up", inner, f"{name}.up.relu")
    return conv_bn(b, x, f"{name}.wide", out, 1)


def _upward(b: NetworkBuilder, x: Handle, name: str, out: int, relu: str) -> Handle:
    x = b.conv_transpose(x, out, 3, 2, 1, 1, bias=False, name=name)
    return norm_act(b, x, name, "relu", ("", ".bn", relu.removeprefix(name)))


MODELS = (fsrcnn_1080p, linknet_4k)
