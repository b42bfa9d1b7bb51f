"""Random small fusion sets and mappings of them."""

from __future__ import annotations

from spm_opt.errors import GraphError
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.mapping import Loop, Mapping
from spm_opt.mapping_set import FusionSet, fusion_set


def images(rng) -> FusionSet:
    """A chain of convolutions, pools and sums on images, with skips where shapes allow."""
    b = NetworkBuilder("world", rng.choice(["int8", "float32"]))
    shape = (rng.choice([1, 1, 1, 2]), rng.randint(1, 4), rng.randint(3, 9), rng.randint(3, 9))
    maps = [(b.input("x", shape), shape)]
    for _ in range(rng.randint(1, 4)):
        maps.append(_image_layer(b, rng, maps))
    used = maps[-1][0]
    b.output(used)
    return _cut(b, rng)


def _image_layer(b, rng, maps):
    x, shape = maps[-1]
    same = [m for m in maps[:-1] if m[1] == shape]
    if same and rng.random() < 0.5:
        handles = [rng.choice(same)[0], x]
        if rng.random() < 0.3:
            joined = b.concat(handles)
            return joined, (shape[0], 2 * shape[1], *shape[2:])
        return b.add(*handles), shape
    kernel = (rng.randint(1, 3), rng.randint(1, 3))
    stride = (rng.randint(1, 2), rng.randint(1, 3))
    dilation = (rng.randint(1, 2), 1)
    padding = rng.choice([0, 1, (0, 1, 1, 0), (1, 0, 1, 2)])
    if rng.random() < 0.5:
        kernel, stride, dilation, padding = (3, 3), (1, 1), (1, 1), 1
    kinds = ["conv", "conv", "depthwise", "pool", "relu"]
    try:
        kind = rng.choice(kinds)
        if kind == "conv":
            groups = rng.choice([1, 1, 2]) if shape[1] % 2 == 0 else 1
            out = groups * rng.randint(1, 2)
            y = b.conv(x, out, kernel, stride, padding, dilation, groups, bias=rng.random() < 0.5)
        elif kind == "depthwise":
            y = b.depthwise(x, kernel, stride, padding, dilation)
        elif kind == "pool":
            y = b.max_pool(x, kernel, stride, 0, dilation)
        else:
            y = b.unary(x, "sigmoid")
    except GraphError:
        y = b.unary(x, "sigmoid")
    return y, b._tensors[y.name].shape


def sequences(rng) -> FusionSet:
    """Linear layers, products and softmax on tokens."""
    b = NetworkBuilder("tokens", rng.choice(["int8", "float16"]))
    if rng.random() < 0.5:
        heads, q, k, d = (rng.randint(1, 4) for _ in range(4))
        left, right = b.input("q", (1, heads, q, d)), b.input("k", (1, heads, k, d))
        scores = b.softmax(b.matmul(left, right, transpose_b=True))
        if rng.random() < 0.7:
            scores = b.matmul(scores, b.input("v", (1, heads, k, rng.randint(1, 4))))
        b.output(scores)
    else:
        lead = rng.choice([(), (1,), (2,)])
        x = b.input("x", (*lead, rng.randint(2, 9), rng.randint(1, 5)))
        for _ in range(rng.randint(1, 3)):
            x = b.linear(x, rng.randint(1, 6), bias=rng.random() < 0.5)
        if rng.random() < 0.3:
            x = b.softmax(x, axis=rng.choice([-1, -2]))
        b.output(x)
    return _cut(b, rng)


def _cut(b, rng) -> FusionSet:
    """The layers that lead to the last one; rarely not the first of them."""
    network = b.build(normalize=False)
    wanted, names = {network.outputs[0]}, []
    for layer in reversed(network.layers):
        if layer.output in wanted:
            wanted |= {operand.tensor for operand in layer.inputs}
            names.append(layer.name)
    layers = tuple(layer for layer in network.layers if layer.name in names)
    return FusionSet(network, layers[rng.random() < 0.1 and len(layers) > 1 :])


def mapping(rng, fused: FusionSet, most_tiles: int = 40) -> Mapping:
    """Any loops, any choice for every tensor."""
    axes = list(fused.axes)
    rng.shuffle(axes)
    loops, tiles = [], 1
    for axis in axes[: rng.randint(0, 3)]:
        extent = fused.extent(axis)
        size = rng.randint(1, extent)
        if tiles * -(-extent // size) <= most_tiles:
            loops.append(Loop(axis, size))
            tiles *= -(-extent // size)
    names = [loop.axis for loop in loops]
    easy = rng.choice([0.2, 0.5, 0.8])

    def kept():
        return tuple(name for name in names if rng.random() < easy)

    maps = {name: kept() for name in (*fused.inputs, *fused.intermediates) if rng.random() < 0.9}
    weights = {la.name: kept() for la in fused.layers if la.weight_bytes and rng.random() < 0.9}
    return Mapping(tuple(loops), maps, weights)


__all__ = ["fusion_set", "images", "mapping", "sequences"]
