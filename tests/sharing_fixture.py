"""Small valid schedules written by hand in which maps lie inside others, or over others.

As in `schedule_fixture`: nothing of the planner or the checker is used.
"""

from __future__ import annotations

from dataclasses import replace

from schedule_fixture import Draft, conv

from spm_opt.graph.network import Layer, Network, Tensor, by_name, operand_of
from spm_opt.graph.ops import Concat, Slice, Unary
from spm_opt.schedule import Schedule


def relu(name: str, source: Tensor, output: Tensor) -> Layer:
    return Layer(name, Unary("relu"), (operand_of(source),), output.name, output.shape)


def share(draft: Draft, buffer: int, host: int) -> None:
    """Let a buffer have the bytes of another."""
    offset = draft.buffers[host].offset_bytes
    draft.buffers[buffer] = replace(draft.buffers[buffer], offset_bytes=offset, shares=host)


def maps(*channels: tuple[str, int]) -> dict[str, Tensor]:
    """Maps of 8 rows, 8 pixels wide."""
    return by_name([Tensor(name, (1, count, 8, 8)) for name, count in channels])


def rectified() -> Network:
    """x -> a -> r = relu(a) -> b."""
    t = maps(("x", 4), ("a.out", 4), ("r.out", 4), ("b.out", 8))
    layers = (
        conv("a", t["x"], t["a.out"]),
        relu("r", t["a.out"], t["r.out"]),
        conv("b", t["r.out"], t["b.out"]),
    )
    return Network("rectified", t, layers, ("x",), ("b.out",))


def in_place() -> Schedule:
    """One group in two tiles; the rectifier writes its stripe over the convolution's."""
    d = Draft(rectified())
    d.step("a", "r", "b", tiles=2, depth=2)
    x = d.buffer("x", "input", "x", 8, 32, (0, 1))
    wa, wb = d.weights("a", (0, 1)), d.weights("b", (0, 1))
    m = d.buffer("m", "stripe", "a.out", 5, 32, (0, 1))
    y = d.buffer("y", "output", "b.out", 8, 64, (0, 1))
    r = d.buffer("r", "stripe", "r.out", 5, 32, (0, 1))
    share(d, r, m)
    d.load_weights("a", wa)
    d.load_weights("b", wb)
    l0 = d.move("load", "x", x, (0, 6), tile=0)
    l1 = d.move("load", "x", x, (6, 8), tile=1)
    d.compute("a", (0, 5), x, wa, m, 6, tile=0, after=[l0])
    d.compute("r", (0, 5), m, None, r, 5, tile=0)
    c0 = d.compute("b", (0, 4), r, wb, y, 5, tile=0)
    d.move("store", "b.out", y, (0, 4), tile=0, after=[c0])
    d.compute("a", (5, 8), x, wa, m, 4, tile=1, after=[l1])
    d.compute("r", (5, 8), m, None, r, 3, tile=1)
    c1 = d.compute("b", (4, 8), r, wb, y, 5, tile=1)
    d.move("store", "b.out", y, (4, 8), tile=1, after=[c1])
    return d.finish()


def takeover() -> Schedule:
    """Three steps: a's map is kept and stored beside, then the rectifier's map takes its bytes."""
    d = Draft(rectified())
    for name in ("a", "r", "b"):
        d.step(name)
    x = d.buffer("x", "map", "x", 8, 32, (0, 1))
    wa, wb = d.weights("a", (0, 1)), d.weights("b", (2, 3))
    m = d.buffer("m", "map", "a.out", 8, 32, (0, 2))
    y = d.buffer("y", "output", "b.out", 8, 64, (2, 3))
    r = d.buffer("r", "map", "r.out", 8, 32, (1, 3))
    share(d, r, m)
    d.load_weights("a", wa)
    loaded = d.move("load", "x", x, (0, 8))
    c = d.compute("a", (0, 8), x, wa, m, 8, after=[loaded])
    d.move("store", "a.out", m, (0, 8), tile=0, after=[c])
    d.compute("r", (0, 8), m, None, r, 8, step=1)
    w = d.load_weights("b", wb, step=2)
    c = d.compute("b", (0, 8), r, wb, y, 8, step=2, after=[w])
    d.move("store", "b.out", y, (0, 8), step=2, tile=0, after=[c])
    return d.finish()


def branches() -> Network:
    """x -> a; a -> b; cat(a, b) -> c."""
    t = maps(("x", 4), ("a.out", 4), ("b.out", 4), ("cat.out", 8), ("c.out", 4))
    pieces = (operand_of(t["a.out"]), operand_of(t["b.out"]))
    cat = Layer("cat", Concat(1), pieces, "cat.out", t["cat.out"].shape)
    layers = (
        conv("a", t["x"], t["a.out"]),
        conv("b", t["a.out"], t["b.out"]),
        cat,
        conv("c", t["cat.out"], t["c.out"]),
    )
    return Network("branches", t, layers, ("x",), ("c.out",))


def joined() -> Schedule:
    """Both pieces are written in place: b reads the first while it adds the second."""
    d = Draft(branches())
    for name in ("a", "b", "cat", "c"):
        d.step(name)
    x = d.buffer("x", "map", "x", 8, 32, (0, 1))
    j = d.buffer("j", "map", "cat.out", 8, 64, (0, 4))
    y = d.buffer("y", "output", "c.out", 8, 32, (3, 4))
    w = [d.weights(name, (n, n + 1)) for name, n in (("a", 0), ("b", 1), ("c", 3))]
    w0 = d.load_weights("a", w[0])
    loaded = d.move("load", "x", x, (0, 8))
    d.compute("a", (0, 8), x, w[0], j, 8, after=[w0, loaded])
    w1 = d.load_weights("b", w[1], step=1)
    d.compute("b", (0, 8), j, w[1], j, 8, step=1, after=[w1])
    w2 = d.load_weights("c", w[2], step=3)
    c = d.compute("c", (0, 8), j, w[2], y, 8, step=3, after=[w2])
    d.move("store", "c.out", y, (0, 8), step=3, tile=0, after=[c])
    return d.finish(idle=("cat",))


def joined_in_dram() -> Schedule:
    """Both pieces are stored where they belong, the first one read there, then all of it."""
    d = Draft(branches())
    for name in ("a", "b", "cat", "c"):
        d.step(name)
    x = d.buffer("x", "map", "x", 8, 32, (0, 1))
    oa = d.buffer("a.stored", "output", "cat.out", 8, 32, (0, 1), (0, 4))
    ia = d.buffer("a.again", "input", "cat.out", 8, 32, (1, 2), (0, 4))
    ob = d.buffer("b.stored", "output", "cat.out", 8, 32, (1, 2), (4, 8))
    ic = d.buffer("cat.again", "input", "cat.out", 8, 64, (3, 4))
    y = d.buffer("y", "output", "c.out", 8, 32, (3, 4))
    w = [d.weights(name, (n, n + 1)) for name, n in (("a", 0), ("b", 1), ("c", 3))]
    w0 = d.load_weights("a", w[0])
    loaded = d.move("load", "x", x, (0, 8))
    c = d.compute("a", (0, 8), x, w[0], oa, 8, after=[w0, loaded])
    low, high = {"channels": (0, 4), "run": (0, 32, 8)}, {"channels": (4, 8), "run": (32, 32, 8)}
    d.move("store", "cat.out", oa, (0, 8), tile=0, after=[c], **low)  # type: ignore[arg-type]
    d.load_weights("b", w[1], step=1)
    loaded = d.move("load", "cat.out", ia, (0, 8), step=1, tile=0, **low)  # type: ignore[arg-type]
    c = d.compute("b", (0, 8), ia, w[1], ob, 8, step=1, after=[loaded])
    d.move("store", "cat.out", ob, (0, 8), step=1, tile=0, after=[c], **high)  # type: ignore[arg-type]
    d.load_weights("c", w[2], step=3)
    loaded = d.move("load", "cat.out", ic, (0, 8), step=3, tile=0)
    c = d.compute("c", (0, 8), ic, w[2], y, 8, step=3, after=[loaded])
    d.move("store", "c.out", y, (0, 8), step=3, tile=0, after=[c])
    return d.finish(idle=("cat",))


def split() -> Schedule:
    """A convolution reads the upper half of the channels where they lie."""
    t = maps(("x", 8), ("s.out", 4), ("a.out", 8))
    op = Slice((0, 4, 0, 0), (1, 4, 8, 8), (1, 1, 1, 1))
    half = Layer("s", op, (operand_of(t["x"]),), "s.out", t["s.out"].shape)
    layers = (half, conv("a", t["s.out"], t["a.out"]))
    d = Draft(Network("split", t, layers, ("x",), ("a.out",)))
    d.step("s")
    d.step("a")
    x = d.buffer("x", "map", "x", 8, 64, (0, 2))
    w = d.weights("a", (1, 2))
    y = d.buffer("y", "output", "a.out", 8, 64, (1, 2))
    d.move("load", "x", x, (0, 8), need=1)
    ready = d.load_weights("a", w, step=1)
    c = d.compute("a", (0, 8), x, w, y, 8, step=1, after=[ready], row_bytes=32)
    d.move("store", "a.out", y, (0, 8), step=1, tile=0, after=[c])
    return d.finish(idle=("s",))


SHARING = {
    "in_place": in_place,
    "takeover": takeover,
    "joined": joined,
    "joined_in_dram": joined_in_dram,
    "split": split,
}
