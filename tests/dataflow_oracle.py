"""Accesses of small layers counted by walking the loop nest, element by element.

Written from the definition of the dataflows, not from the formulas: loops over passes, sets of
words that exist, one count a word.
"""

from __future__ import annotations

from collections import Counter


def spans(extent, step):
    return [range(start, min(start + step, extent)) for start in range(0, extent, step)]


def window(nest, rows):
    """Input rows under output rows; all of them where nothing is cut."""
    if len(rows) == nest.rows_out:
        return range(nest.rows_in)
    last = rows[-1] * nest.stride + nest.kernel
    return range(rows[0] * nest.stride, last)


def fills(nest, m, n, e):
    """Every fill of the buffer: group, strip, images, filters."""
    for group in range(nest.groups):
        for strip in spans(nest.rows_out, e):
            for images in spans(nest.images, n):
                for filters in spans(nest.filters, m):
                    yield group, strip, images, filters


def dram(nest, m, n, e):
    """Words at DRAM: a fill keeps nothing of the one before but what one walk brings in."""
    count = Counter()
    for _, strip, images, filters in fills(nest, m, n, e):
        for _ in filters:
            for _ in range(nest.channels * nest.kernel**2):
                count["weights"] += 1
            for _ in images:
                count["ofmap"] += len(strip) * nest.rows_out
        for _ in images:
            for _ in range(nest.channels):
                for _ in window(nest, strip):
                    count["ifmap"] += nest.rows_in
    return count


def row_stationary(nest, mp):
    """All counts of row-stationary execution."""
    count = Counter()
    for key, words in dram(nest, mp.m, mp.n, mp.e).items():
        count[key] = words
    for _, strip, images, filters in fills(nest, mp.m, mp.n, mp.e):
        for channels in spans(nest.channels, mp.q * mp.r):
            for block in spans(len(filters), mp.p * mp.t):
                # the pass: PEs stand still in the idle part of a last pass
                count["cycles"] += len(images) * mp.p * mp.q * nest.kernel * nest.rows_out
                for _ in channels:
                    for _ in images:
                        count["buffer"] += len(window(nest, strip)) * nest.rows_in
                sets = spans(len(channels), mp.q)
                for _ in block:
                    for _ in images:
                        for _ in strip:
                            for _ in range(nest.rows_out):
                                count["buffer"] += 2  # the sum so far in, the new one out
                                count["hops"] += nest.kernel * len(sets) - 1
                                for _ in range(len(channels) * nest.kernel**2):
                                    count["macs"] += 1
                # weights: from the buffer once, to the PE of every output row
                words = len(block) * len(channels) * nest.kernel**2
                count["buffer weights"] += words
                count["filters in"] += words * len(strip)
                # every set of other filters gets the rows of all channels
                count["rows in"] += (
                    mp.t * len(channels) * len(images) * nest.kernel * len(strip) * nest.rows_in
                )
    return count


def weight_stationary(nest, of):
    """All counts of weight-stationary execution."""
    count = Counter(dram(nest, of["m"], of["n"], of["e"]))
    for _, strip, images, filters in fills(nest, of["m"], of["n"], of["e"]):
        for channels in spans(nest.channels, of["channels"]):
            for block in spans(len(filters), of["filters"]):
                held = len(block) * len(channels) * nest.kernel**2
                count["registers"] += held
                count["neighbours"] += held
                count["buffer weights"] += held
                for _ in images:
                    count["buffer"] += len(channels) * len(window(nest, strip)) * nest.rows_in
                    for _ in range(len(strip) * nest.rows_out):
                        count["cycles"] += 1
                        count["buffer"] += 2 * len(block)
                        count["registers"] += held
                        count["neighbours"] += held + held - len(block)
    return count


def no_local_reuse(nest, of):
    """All counts without local reuse."""
    count = Counter(dram(nest, of["m"], of["n"], of["e"]))
    depth = nest.channels * nest.kernel**2
    for _, strip, images, filters in fills(nest, of["m"], of["n"], of["e"]):
        for taps in spans(depth, of["taps"]):
            for block in spans(len(filters), of["filters"]):
                for _ in range(len(images) * len(strip) * nest.rows_out):
                    count["cycles"] += 1
                    count["buffer"] += 2 * len(block) + len(taps)
                    count["buffer weights"] += len(block) * len(taps)
                    count["neighbours"] += len(block) * (3 * len(taps) - 1)
    return count


def output_stationary(nest, of):
    """All counts of output-stationary execution."""
    count = Counter(dram(nest, of["m"], of["n"], of["e"]))
    for _ in range(nest.groups):
        for rows in spans(nest.rows_out, of["rows"]):
            for columns in spans(nest.rows_out, of["columns"]):
                for images in spans(nest.images, of["images"]):
                    for fill in spans(nest.filters, of["m"]):
                        for block in spans(len(fill), of["filters"]):
                            pixels = len(rows) * len(columns) * len(images)
                            for _ in range(nest.channels):
                                area = len(window(nest, rows)) * len(window(nest, columns))
                                count["buffer"] += area * len(images)
                                for _ in range(nest.kernel**2):
                                    count["cycles"] += 1
                                    count["buffer weights"] += len(block)
                                    count["registers"] += 2 * len(block) * pixels
                                    count["neighbours"] += 2 * len(block) * pixels
                            count["buffer"] += len(block) * pixels
    return count
