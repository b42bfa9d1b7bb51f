"""GoogLeNet, Inception-v3, Inception-ResNet-v1."""

from __future__ import annotations

from collections.abc import Sequence

from _blocks import basic_conv, classifier, image

from spm_opt.graph.builder import Handle, NetworkBuilder


def _chain(b: NetworkBuilder, x: Handle, name: str, *steps: Sequence[object]) -> Handle:
    """Convolutions one after the other: (suffix, channels[, kernel[, stride[, padding]]])."""
    for suffix, *rest in steps:
        x = basic_conv(b, x, f"{name}.{suffix}", *rest)  # type: ignore[arg-type]
    return x


def _googlenet_block(b: NetworkBuilder, x: Handle, name: str, outs: tuple[int, ...]) -> Handle:
    one, red3, three, red5, five, pool = outs
    pooled = b.max_pool(x, 3, 1, 1, ceil_mode=True, name=f"{name}.branch4.0")
    branches = (
        _chain(b, x, name, ("branch1", one)),
        _chain(b, x, name, ("branch2.0", red3), ("branch2.1", three, 3)),
        # 3x3 where the paper has 5x5, as in torchvision
        _chain(b, x, name, ("branch3.0", red5), ("branch3.1", five, 3)),
        _chain(b, pooled, name, ("branch4.1", pool)),
    )
    return b.concat(branches, name=f"{name}.cat")


_GOOGLENET = (
    ("maxpool2", 3), ("inception3a", (64, 96, 128, 16, 32, 32)),
    ("inception3b", (128, 128, 192, 32, 96, 64)), ("maxpool3", 3),
    ("inception4a", (192, 96, 208, 16, 48, 64)), ("inception4b", (160, 112, 224, 24, 64, 64)),
    ("inception4c", (128, 128, 256, 24, 64, 64)), ("inception4d", (112, 144, 288, 32, 64, 64)),
    ("inception4e", (256, 160, 320, 32, 128, 128)), ("maxpool4", 2),
    ("inception5a", (256, 160, 320, 32, 128, 128)), ("inception5b", (384, 192, 384, 48, 128, 128)),
)  # fmt: skip


def googlenet(b: NetworkBuilder) -> None:
    """Szegedy et al. 2014 with batch normalisation and without auxiliary heads, as in
    torchvision."""
    x = basic_conv(b, image(b, 224), "conv1", 64, 7, 2)
    x = b.max_pool(x, 3, 2, ceil_mode=True, name="maxpool1")
    x = basic_conv(b, x, "conv2", 64)
    x = basic_conv(b, x, "conv3", 192, 3)
    for name, what in _GOOGLENET:
        if isinstance(what, int):
            x = b.max_pool(x, what, 2, ceil_mode=True, name=name)
        else:
            x = _googlenet_block(b, x, name, what)
    classifier(b, x, "fc")


def _pool_branch(b: NetworkBuilder, x: Handle, name: str, out: int) -> Handle:
    x = b.avg_pool(x, 3, 1, 1, count_include_pad=True, name=f"{name}.avg_pool")
    return basic_conv(b, x, f"{name}.branch_pool", out)


def _inception_a(b: NetworkBuilder, x: Handle, name: str, pool: int) -> Handle:
    branches = (
        _chain(b, x, name, ("branch1x1", 64)),
        _chain(b, x, name, ("branch5x5_1", 48), ("branch5x5_2", 64, 5)),
        _chain(
            b, x, name, ("branch3x3dbl_1", 64), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)
        ),
        _pool_branch(b, x, name, pool),
    )
    return b.concat(branches, name=f"{name}.cat")


def _inception_b(b: NetworkBuilder, x: Handle, name: str) -> Handle:
    branches = (
        _chain(b, x, name, ("branch3x3", 384, 3, 2, 0)),
        _chain(
            b, x, name, ("branch3x3dbl_1", 64), ("branch3x3dbl_2", 96, 3),
            ("branch3x3dbl_3", 96, 3, 2, 0),
        ),
        b.max_pool(x, 3, 2, name=f"{name}.max_pool"),
    )  # fmt: skip
    return b.concat(branches, name=f"{name}.cat")


def _inception_c(b: NetworkBuilder, x: Handle, name: str, c7: int) -> Handle:
    branches = (
        _chain(b, x, name, ("branch1x1", 192)),
        _chain(
            b, x, name, ("branch7x7_1", c7), ("branch7x7_2", c7, (1, 7)),
            ("branch7x7_3", 192, (7, 1)),
        ),
        _chain(
            b, x, name, ("branch7x7dbl_1", c7), ("branch7x7dbl_2", c7, (7, 1)),
            ("branch7x7dbl_3", c7, (1, 7)), ("branch7x7dbl_4", c7, (7, 1)),
            ("branch7x7dbl_5", 192, (1, 7)),
        ),
        _pool_branch(b, x, name, 192),
    )  # fmt: skip
    return b.concat(branches, name=f"{name}.cat")


def _inception_d(b: NetworkBuilder, x: Handle, name: str) -> Handle:
    branches = (
        _chain(b, x, name, ("branch3x3_1", 192), ("branch3x3_2", 320, 3, 2, 0)),
        _chain(
            b, x, name, ("branch7x7x3_1", 192), ("branch7x7x3_2", 192, (1, 7)),
            ("branch7x7x3_3", 192, (7, 1)), ("branch7x7x3_4", 192, 3, 2, 0),
        ),
        b.max_pool(x, 3, 2, name=f"{name}.max_pool"),
    )  # fmt: skip
    return b.concat(branches, name=f"{name}.cat")


def _fork(b: NetworkBuilder, x: Handle, name: str, a: str, c: str) -> Handle:
    """A 1x3 and a 3x1 convolution of the same map, side by side."""
    wide = basic_conv(b, x, f"{name}.{a}", 384, (1, 3))
    tall = basic_conv(b, x, f"{name}.{c}", 384, (3, 1))
    return b.concat((wide, tall), name=f"{name}.{a[:-1]}.cat")


def _inception_e(b: NetworkBuilder, x: Handle, name: str) -> Handle:
    three = _chain(b, x, name, ("branch3x3_1", 384))
    double = _chain(b, x, name, ("branch3x3dbl_1", 448), ("branch3x3dbl_2", 384, 3))
    branches = (
        _chain(b, x, name, ("branch1x1", 320)),
        _fork(b, three, name, "branch3x3_2a", "branch3x3_2b"),
        _fork(b, double, name, "branch3x3dbl_3a", "branch3x3dbl_3b"),
        _pool_branch(b, x, name, 192),
    )
    return b.concat(branches, name=f"{name}.cat")


def inception_v3(b: NetworkBuilder) -> None:
    """Szegedy et al. 2015, 299x299, without the auxiliary head, torchvision's names."""
    x = basic_conv(b, image(b, 299), "Conv2d_1a_3x3", 32, 3, 2, 0)
    x = basic_conv(b, x, "Conv2d_2a_3x3", 32, 3, 1, 0)
    x = basic_conv(b, x, "Conv2d_2b_3x3", 64, 3)
    x = b.max_pool(x, 3, 2, name="maxpool1")
    x = basic_conv(b, x, "Conv2d_3b_1x1", 80)
    x = basic_conv(b, x, "Conv2d_4a_3x3", 192, 3, 1, 0)
    x = b.max_pool(x, 3, 2, name="maxpool2")
    for name, pool in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
        x = _inception_a(b, x, name, pool)
    x = _inception_b(b, x, "Mixed_6a")
    for name, c7 in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        x = _inception_c(b, x, name, c7)
    x = _inception_d(b, x, "Mixed_7a")
    for name in ("Mixed_7b", "Mixed_7c"):
        x = _inception_e(b, x, name)
    classifier(b, x, "fc")


def _residual(
    b: NetworkBuilder, x: Handle, name: str, branches: Sequence[Handle], act: bool = True
) -> Handle:
    """Branches joined, brought back to the input's channels and added to it."""
    y = b.conv(b.concat(branches, name=f"{name}.cat"), x.shape[1], 1, name=f"{name}.conv2d")
    y = b.add(x, y, name=f"{name}.add")
    return b.relu(y, name=f"{name}.relu") if act else y


def _block35(b: NetworkBuilder, x: Handle, name: str) -> Handle:
    branches = (
        _chain(b, x, name, ("branch0", 32)),
        _chain(b, x, name, ("branch1.0", 32), ("branch1.1", 32, 3)),
        _chain(b, x, name, ("branch2.0", 32), ("branch2.1", 32, 3), ("branch2.2", 32, 3)),
    )
    return _residual(b, x, name, branches)


def _block17(b: NetworkBuilder, x: Handle, name: str) -> Handle:
    branches = (
        _chain(b, x, name, ("branch0", 128)),
        _chain(
            b, x, name, ("branch1.0", 128), ("branch1.1", 128, (1, 7)), ("branch1.2", 128, (7, 1))
        ),
    )
    return _residual(b, x, name, branches)


def _block8(b: NetworkBuilder, x: Handle, name: str, act: bool = True) -> Handle:
    branches = (
        _chain(b, x, name, ("branch0", 192)),
        _chain(
            b, x, name, ("branch1.0", 192), ("branch1.1", 192, (1, 3)), ("branch1.2", 192, (3, 1))
        ),
    )
    return _residual(b, x, name, branches, act)


def _reduction_a(b: NetworkBuilder, x: Handle, name: str) -> Handle:
    branches = (
        _chain(b, x, name, ("branch0", 384, 3, 2, 0)),
        _chain(b, x, name, ("branch1.0", 192), ("branch1.1", 192, 3), ("branch1.2", 256, 3, 2, 0)),
        b.max_pool(x, 3, 2, name=f"{name}.branch2"),
    )
    return b.concat(branches, name=f"{name}.cat")


def _reduction_b(b: NetworkBuilder, x: Handle, name: str) -> Handle:
    branches = (
        _chain(b, x, name, ("branch0.0", 256), ("branch0.1", 384, 3, 2, 0)),
        _chain(b, x, name, ("branch1.0", 256), ("branch1.1", 256, 3, 2, 0)),
        _chain(b, x, name, ("branch2.0", 256), ("branch2.1", 256, 3), ("branch2.2", 256, 3, 2, 0)),
        b.max_pool(x, 3, 2, name=f"{name}.branch3"),
    )
    return b.concat(branches, name=f"{name}.cat")


def inception_resnet_v1(b: NetworkBuilder) -> None:
    """Szegedy et al. 2016 as face recognition uses it: 160x160, a 512-value embedding, names as in
    facenet-pytorch. The residual scales (0.17, 0.10, 0.20) are part of the weights before them."""
    x = basic_conv(b, image(b, 160), "conv2d_1a", 32, 3, 2, 0)
    x = basic_conv(b, x, "conv2d_2a", 32, 3, 1, 0)
    x = basic_conv(b, x, "conv2d_2b", 64, 3)
    x = b.max_pool(x, 3, 2, name="maxpool_3a")
    x = basic_conv(b, x, "conv2d_3b", 80)
    x = basic_conv(b, x, "conv2d_4a", 192, 3, 1, 0)
    x = basic_conv(b, x, "conv2d_4b", 256, 3, 2, 0)
    for i in range(5):
        x = _block35(b, x, f"repeat_1.{i}")
    x = _reduction_a(b, x, "mixed_6a")
    for i in range(10):
        x = _block17(b, x, f"repeat_2.{i}")
    x = _reduction_b(b, x, "mixed_7a")
    for i in range(5):
        x = _block8(b, x, f"repeat_3.{i}")
    x = _block8(b, x, "block8", act=False)
    x = b.flatten(b.global_avg_pool(x, name="avgpool_1a"), name="flatten")
    b.output(b.batch_norm(b.linear(x, 512, bias=False, name="last_linear"), name="last_bn"))


MODELS = (googlenet, inception_v3, inception_resnet_v1)
