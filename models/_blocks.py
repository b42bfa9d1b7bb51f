"""Building blocks that several networks of the catalogue share."""

from __future__ import annotations

from collections.abc import Sequence

from spm_opt.graph.builder import Handle, NetworkBuilder


def half(kernel: int | Sequence[int]) -> int | list[int]:
    """Padding that keeps the size at stride 1."""
    return kernel // 2 if isinstance(kernel, int) else [k // 2 for k in kernel]


def conv_bn(
    b: NetworkBuilder, x: Handle, name: str, out: int, kernel: int | Sequence[int] = 1,
    stride: int = 1, padding: int | Sequence[int] | None = None, act: str | None = "relu",
    parts: tuple[str, str, str] = ("", ".bn", ""),
) -> Handle:  # fmt: skip
    """Convolution without bias, batch normalisation, activation.

    Their names are `name` and one of `parts` each; the activation's is ``.ACT`` by default.
    """
    pad = half(kernel) if padding is None else padding
    x = b.conv(x, out, kernel, stride, pad, bias=False, name=name + parts[0])
    return norm_act(b, x, name, act, parts)


def depthwise_bn(
    b: NetworkBuilder, x: Handle, name: str, kernel: int, stride: int, act: str | None
) -> Handle:
    """Depthwise convolution without bias, batch normalisation, activation."""
    x = b.depthwise(x, kernel, stride, half(kernel), bias=False, name=name)
    return norm_act(b, x, name, act)


def norm_act(
    b: NetworkBuilder, x: Handle, name: str, act: str | None,
    parts: tuple[str, str, str] = ("", ".bn", ""),
) -> Handle:  # fmt: skip
    """Batch normalisation, then the activation if there is one."""
    x = b.batch_norm(x, name=name + parts[1])
    return x if act is None else b.unary(x, act, name=name + (parts[2] or f".{act}"))


def basic_conv(
    b: NetworkBuilder, x: Handle, name: str, out: int, kernel: int | Sequence[int] = 1,
    stride: int = 1, padding: int | Sequence[int] | None = None,
) -> Handle:  # fmt: skip
    """torchvision's BasicConv2d: ``NAME.conv``, ``NAME.bn``, ``NAME.relu``."""
    return conv_bn(b, x, name, out, kernel, stride, padding, parts=(".conv", ".bn", ".relu"))


def squeeze_excite(
    b: NetworkBuilder, x: Handle, name: str, squeezed: int, act: str, gate: str
) -> Handle:
    """Channel attention: mean over space, two 1x1 convolutions, a gate per channel."""
    s = b.global_avg_pool(x, name=f"{name}.avgpool")
    s = b.conv(s, squeezed, 1, name=f"{name}.fc1")
    s = b.unary(s, act, name=f"{name}.activation")
    s = b.conv(s, x.shape[1], 1, name=f"{name}.fc2")
    s = b.unary(s, gate, name=f"{name}.scale_activation")
    return b.mul(x, s, name=f"{name}.mul")


def inverted_residual(
    b: NetworkBuilder, x: Handle, name: str, expanded: int, out: int, kernel: int, stride: int,
    act: str, se: tuple[int, str, str] | None = None,
) -> Handle:  # fmt: skip
    """Expand, depthwise, (squeeze-excite,) project; the input is added where shapes agree."""
    y = x
    if expanded != x.shape[1]:
        y = conv_bn(b, y, f"{name}.expand", expanded, act=act)
    y = depthwise_bn(b, y, f"{name}.depthwise", kernel, stride, act)
    if se is not None:
        y = squeeze_excite(b, y, f"{name}.se", *se)
    y = conv_bn(b, y, f"{name}.project", out, act=None)
    return b.add(x, y, name=f"{name}.add") if x.shape == y.shape else y


def classifier(b: NetworkBuilder, x: Handle, name: str, classes: int = 1000) -> None:
    """Global average pooling and one linear layer."""
    x = b.flatten(b.global_avg_pool(x, name="avgpool"), name="flatten")
    b.output(b.linear(x, classes, name=name))


def image(b: NetworkBuilder, size: int, channels: int = 3) -> Handle:
    """The network's input image."""
    return b.input("input", (1, channels, size, size))


def divisible(value: float, divisor: int = 8) -> int:
    """Nearest multiple of `divisor`, never more than 10 % below `value` (MobileNet's rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
