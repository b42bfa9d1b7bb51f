"""How the rows of a tensor appear under another shape: along one axis, or image by image."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spm_opt.graph.ops import Shape, row_axis, row_count


@dataclass(frozen=True, slots=True)
class SeenRows:
    """Where a tensor's rows are in a shape under which it is seen.

    Attributes
    ----------
    row_axis : int or None
        Axis that runs over all rows; None where no single one does.
    image_axis : int or None
        Axis that runs over the rows of one index of the first axis (an image), None where the
        shape mixes them.
    image_rows : int
        Rows of one index of the first axis; 0 where that has no whole rows of its own.
    """

    row_axis: int | None
    image_axis: int | None = None
    image_rows: int = 0


def seen_rows(source: Shape, images: int, view: Shape) -> SeenRows:
    """Where the rows of a tensor of shape `source` are in `view`.

    Parameters
    ----------
    images : int
        Images whose rows follow one another: the extent of the first axis, or 1.
    """
    axis = row_axis(source)
    if axis is None:
        return SeenRows(None)
    if view == source and images == 1 < axis:
        return SeenRows(axis)
    if view == source and images > 1:
        return SeenRows(None, axis, row_count(source))
    rows, before = images * row_count(source), math.prod(source[:axis]) // images
    whole = _axis_of(view, rows, before) if images == 1 or before == 1 else None
    count = view[0] if view else 1
    # with nothing between them, rows are in memory as the elements are in their order
    apart = images if before > 1 else count
    if count == 1 or count != apart or rows % count:
        return SeenRows(whole)
    inside = _axis_of(view[1:], rows // count, before)
    return SeenRows(whole, None if inside is None else inside + 1, rows // count)


def _axis_of(view: Shape, extent: int, before: int) -> int | None:
    """Axis of `view` of this extent, with this volume before it."""
    for i, size in enumerate(view):
        if size == extent and math.prod(view[:i]) == before:
            return i
    return None
