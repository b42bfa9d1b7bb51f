"""MobileNet V1 to V3 and EfficientNet: depthwise-separable networks."""

from __future__ import annotations

from _blocks import classifier, conv_bn, depthwise_bn, divisible, image, inverted_residual

from spm_opt.graph.builder import NetworkBuilder


def mobilenet_v1(b: NetworkBuilder) -> None:
    """Howard et al. 2017, width 1.0."""
    x = conv_bn(b, image(b, 224), "features.0", 32, 3, 2)
    outs = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for i, out in enumerate(outs, start=1):
        stride = 2 if i in (2, 4, 6, 12) else 1
        x = depthwise_bn(b, x, f"features.{i}.depthwise", 3, stride, "relu")
        x = conv_bn(b, x, f"features.{i}.pointwise", out)
    classifier(b, x, "classifier")


def mobilenet_v2(b: NetworkBuilder) -> None:
    """Sandler et al. 2018, width 1.0; blocks numbered as in torchvision."""
    x = conv_bn(b, image(b, 224), "features.0", 32, 3, 2, act="relu6")
    index = 1
    # expansion, output channels, repetitions, stride of the first
    for expand, out, count, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for i in range(count):
            width, stride = expand * x.shape[1], first if i == 0 else 1
            x = inverted_residual(b, x, f"features.{index}", width, out, 3, stride, "relu6")
            index += 1
    x = conv_bn(b, x, f"features.{index}", 1280, act="relu6")
    classifier(b, x, "classifier.1")


#: kernel, expanded, output, squeeze-excite, activation, stride
_V3_LARGE = (
    (3, 16, 16, False, "relu", 1), (3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2), (5, 120, 40, True, "relu", 1), (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hardswish", 2), (3, 200, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1), (3, 184, 80, False, "hardswish", 1),
    (3, 480, 112, True, "hardswish", 1), (3, 672, 112, True, "hardswish", 1),
    (5, 672, 160, True, "hardswish", 2), (5, 960, 160, True, "hardswish", 1),
    (5, 960, 160, True, "hardswish", 1),
)  # fmt: skip


def mobilenet_v3_large(b: NetworkBuilder) -> None:
    """Howard et al. 2019; blocks numbered as in torchvision."""
    x = conv_bn(b, image(b, 224), "features.0", 16, 3, 2, act="hardswish")
    for i, (kernel, expanded, out, with_se, act, stride) in enumerate(_V3_LARGE, start=1):
        se = (divisible(expanded / 4), "relu", "hardsigmoid") if with_se else None
        x = inverted_residual(b, x, f"features.{i}", expanded, out, kernel, stride, act, se)
    x = conv_bn(b, x, "features.16", 960, act="hardswish")
    x = b.flatten(b.global_avg_pool(x, name="avgpool"), name="flatten")
    x = b.unary(b.linear(x, 1280, name="classifier.0"), "hardswish", name="classifier.1")
    b.output(b.linear(x, 1000, name="classifier.3"))


def efficientnet_b0(b: NetworkBuilder) -> None:
    """Tan and Le 2019; blocks numbered as in torchvision."""
    x = conv_bn(b, image(b, 224), "features.0", 32, 3, 2, act="silu")
    # expansion, kernel, stride of the first, output channels, repetitions
    for stage, (expand, kernel, first, out, count) in enumerate((
        (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
    ), start=1):  # fmt: skip
        for i in range(count):
            channels, stride = x.shape[1], first if i == 0 else 1
            se = (channels // 4, "silu", "sigmoid")
            name = f"features.{stage}.{i}"
            x = inverted_residual(b, x, name, expand * channels, out, kernel, stride, "silu", se)
    x = conv_bn(b, x, "features.8", 1280, act="silu")
    classifier(b, x, "classifier.1")


MODELS = (mobilenet_v1, mobilenet_v2, mobilenet_v3_large, efficientnet_b0)
