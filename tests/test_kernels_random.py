"""Random layers through the kernels: odd sizes, strides, windows larger than the map, one row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kernel_cases import case, in_images
from kernel_programs import CHECKED, COMPILER, Case, Writer, build, run_programs

from spm_opt.errors import GraphError
from spm_opt.graph import ops

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
Rng = np.random.Generator
Made = tuple[ops.Op, list[tuple[int, ...]], dict[str, float]]


def _ints(rng: Rng, count: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(low, high + 1, count))


def _conv(rng: Rng) -> Made:
    rank, groups = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    inner, outer = (int(n) for n in rng.integers(1, 4, 2) * groups)
    op = ops.Conv(
        outer, _ints(rng, rank, 1, 4), _ints(rng, rank, 1, 3), _ints(rng, 2 * rank, 0, 3),
        _ints(rng, rank, 1, 2), groups, bool(rng.integers(2)), _activation(rng),
    )  # fmt: skip
    return op, [(int(rng.integers(1, 3)), inner, *_ints(rng, rank, 1, 12))], {}


def _transposed(rng: Rng) -> Made:
    rank, groups = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    inner, outer = (int(n) for n in rng.integers(1, 4, 2) * groups)
    stride = _ints(rng, rank, 1, 3)
    extra = tuple(int(rng.integers(0, s)) for s in stride)
    op = ops.ConvTranspose(
        outer, _ints(rng, rank, 1, 4), stride, _ints(rng, 2 * rank, 0, 2), _ints(rng, rank, 1, 2),
        extra, groups, bool(rng.integers(2)), _activation(rng),
    )  # fmt: skip
    return op, [(int(rng.integers(1, 3)), inner, *_ints(rng, rank, 1, 7))], {}


def _linear(rng: Rng) -> Made:
    shape = _ints(rng, int(rng.integers(1, 5)), 1, 6)
    op = ops.Linear(int(rng.integers(1, 90)), bool(rng.integers(2)), _activation(rng))
    return op, [(*shape[:-1], int(rng.integers(1, 60)))], {}


def _matmul(rng: Rng) -> Made:
    batch = _ints(rng, int(rng.integers(0, 3)), 1, 3)
    rows, inner, columns = _ints(rng, 3, 1, 40)
    turned = bool(rng.integers(2))
    right = (columns, inner) if turned else (inner, columns)
    narrow = tuple(1 if rng.integers(2) else n for n in batch)
    return ops.MatMul(turned, _activation(rng)), [(*batch, rows, inner), (*narrow, *right)], {}


def _activation(rng: Rng) -> str | None:
    return (None, "relu", "relu6", "silu")[int(rng.integers(4))]


def _pool(rng: Rng) -> Made:
    rank = int(rng.integers(1, 4))
    kernel = _ints(rng, rank, 1, 4)
    pads = tuple(int(rng.integers(0, k)) for k in (*kernel, *kernel))
    op = ops.Pool(
        "max", kernel, _ints(rng, rank, 1, 3), pads, _ints(rng, rank, 1, 2),
        bool(rng.integers(2)),
    )  # fmt: skip
    return op, [(int(rng.integers(1, 3)), int(rng.integers(1, 4)), *_ints(rng, rank, 3, 12))], {}


def _reduce(rng: Rng) -> Made:
    shape = _ints(rng, int(rng.integers(1, 5)), 1, 6)
    axes = tuple(i for i in range(len(shape)) if rng.integers(2)) or (0,)
    return ops.Reduce("max", axes, bool(rng.integers(2))), [shape], {}


def _binary(rng: Rng) -> Made:
    shape = _ints(rng, int(rng.integers(1, 5)), 1, 6)
    other = tuple(n if rng.integers(2) else 1 for n in shape)[int(rng.integers(len(shape))) :]
    if rng.integers(2):
        return ops.Binary("add", other), [shape], {}
    return ops.Binary("sub"), [shape, other], {}


def _concat(rng: Rng) -> Made:
    shape, axis = _ints(rng, 4, 1, 5), int(rng.integers(4))
    shapes = [
        tuple(int(rng.integers(1, 4)) if i == axis else n for i, n in enumerate(shape))
        for _ in range(int(rng.integers(2, 5)))
    ]
    return ops.Concat(axis), shapes, {}


def _slice(rng: Rng) -> Made:
    shape = _ints(rng, int(rng.integers(1, 5)), 1, 8)
    parts = []
    for extent in shape:
        low, high = sorted(int(n) for n in rng.integers(0, extent, 2))
        step = int(rng.integers(1, 4)) * (1 if rng.integers(2) else -1)
        parts.append(range(low, high + 1, step) if step > 0 else range(high, low - 1, step))
    return (
        ops.Slice(
            tuple(p.start for p in parts), tuple(map(len, parts)), tuple(p.step for p in parts)
        ),
        [shape],
        {},
    )


def _pad(rng: Rng) -> Made:
    shape = _ints(rng, int(rng.integers(1, 5)), 3, 7)
    mode = ("constant", "edge", "reflect", "wrap")[int(rng.integers(4))]
    return ops.Pad(_ints(rng, 2 * len(shape), -1, 2), mode, 0.5), [shape], {}


def _transpose(rng: Rng) -> Made:
    shape = _ints(rng, int(rng.integers(1, 6)), 1, 5)
    return ops.Transpose(tuple(int(i) for i in rng.permutation(len(shape)))), [shape], {}


def _normalize(rng: Rng) -> Made:
    shape = _ints(rng, int(rng.integers(2, 5)), 2, 6)
    axes = tuple(i for i in range(len(shape)) if rng.integers(2)) or (len(shape) - 1,)
    # scale and shift broadcast from the last axis
    trailing = axes == tuple(range(len(shape) - len(axes), len(shape)))
    return ops.Normalize("layer", axes, trailing), [shape], {"epsilon": 1e-3}


def _softmax(rng: Rng) -> Made:
    shape = _ints(rng, int(rng.integers(1, 5)), 1, 7)
    return ops.Softmax(int(rng.integers(len(shape)))), [shape], {}


KINDS: tuple[Callable[[Rng], Made], ...] = (
    _conv, _conv, _transposed, _linear, _matmul, _pool, _reduce, _binary, _concat, _slice, _pad,
    _transpose, _normalize, _softmax,
)  # fmt: skip


def _cases(seed: int, count: int, images: bool) -> list[Case]:
    found: list[Case] = []
    rng = np.random.default_rng(seed)
    while len(found) < count:
        op, shapes, parameters = KINDS[int(rng.integers(len(KINDS)))](rng)
        dtype = ("float32", "int8", "uint8")[int(rng.integers(3))]
        lying = [_view(rng, shape) for shape in shapes]
        name = f"{seed}.{len(found)} {op} {lying} as {shapes}, {dtype}"
        try:
            made = case(name, op, *lying, dtype=dtype, views=shapes, **parameters)
        except GraphError:
            continue
        made = in_images(made, f"{name}, images")
        batched = any(t.images > 1 for t in made.network.tensors.values())
        if batched == images:
            found.append(made)
    return found


def _view(rng: Rng, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Sometimes another shape of as many elements: two neighbouring axes as one, or one as two."""
    if rng.integers(3) or len(shape) < 2:
        return shape
    at = int(rng.integers(len(shape) - 1))
    if rng.integers(2):
        return (*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])
    factor = next((f for f in (2, 3, 5) if shape[at] % f == 0), 1)
    return (*shape[:at], factor, shape[at] // factor, *shape[at + 1 :])


def _check(seed: int, count: int, folder: Any, images: bool = False) -> None:
    cases = _cases(seed, count, images)
    writers, owners = [], []
    for i, made in enumerate(cases):
        for way in ("whole", "rows", "channels"):
            writer = Writer(i, made, np.random.default_rng([seed, i, len(way)]))
            if way == "whole":
                writer.whole()
            elif way == "rows" or writer.axis is not None:
                writer.cut(channels=way == "channels")
            else:
                continue
            writers.append(writer)
            owners.append((i, way))
    driver = build(folder, cases, CHECKED)
    results = run_programs(driver, folder, [w.program for w in writers])
    wholes: dict[int, np.ndarray] = {}
    for (i, way), writer, result in zip(owners, writers, results, strict=True):
        output, made = writer.joined(result), cases[i]
        if way != "whole":
            np.testing.assert_array_equal(output, wholes[i], err_msg=f"{way}: {made.name}")
            continue
        wholes[i], expected = output, made.expected()
        if made.tolerance:
            scale = float(np.abs(expected).max(initial=1.0))
            np.testing.assert_allclose(
                output, expected, rtol=1e-5, atol=1e-5 * scale, err_msg=made.name
            )
        else:
            np.testing.assert_array_equal(output, expected, err_msg=made.name)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(20))
def test_random_layers(tmp_path, seed):
    _check(seed, 100, tmp_path, images=seed % 2 == 1)


def test_random_layers_of_several_images(tmp_path):
    _check(100, 60, tmp_path, images=True)
