"""What a nest does on an array of PEs, counted by walking its passes, word by word where it can.

Written from the definition of the dataflows, not from the formulas: everything lies in the
scratchpad, weights enter once a pass, and only words that exist are counted.
"""

from __future__ import annotations

from collections import Counter


def spans(extent, step):
    return [range(start, min(start + step, extent)) for start in range(0, extent, step)]


def under(window, outputs):
    """Input indices from the first to the last that a run of outputs needs."""
    found = {window.scale * o + i for o in outputs for i in range(window.reach + 1)}
    return range(min(found), max(found) + 1)


def row_stationary(nest, e, p, q, r, t):
    count = Counter()
    width = len(under(nest.column_window, range(nest.columns)))
    for _ in range(nest.groups):
        for filters in spans(nest.filters, p * t):
            for channels in spans(nest.channels, q * r):
                held = len(filters) * len(channels) * nest.kernel_rows * nest.kernel_columns
                count["weights"] += held
                count["filters in"] += held * e
                for strip in spans(nest.rows, e):
                    for _ in range(nest.images):
                        pass_of_rows(nest, count, width, filters, channels, strip, p, q)
    return count


def pass_of_rows(nest, count, width, filters, channels, strip, p, q):
    count["cycles"] += p * q * nest.kernel_columns * nest.columns
    count["maps"] += len(channels) * len(under(nest.row_window, strip)) * width
    for _ in spans(len(filters), p):  # each set of other filters
        for _ in channels:
            for _ in strip:
                count["rows in"] += nest.kernel_rows * width
    for _ in filters:
        for _ in strip:
            for _ in range(nest.columns):
                count["maps"] += 2  # the sum so far in, the new one out
                count["hops"] += nest.kernel_rows * len(spans(len(channels), q)) - 1
                count["macs"] += len(channels) * nest.kernel_rows * nest.kernel_columns


def weight_stationary(nest, channels, filters):
    count = Counter()
    taps = nest.kernel_rows * nest.kernel_columns
    window = len(under(nest.row_window, range(nest.rows)))
    window *= len(under(nest.column_window, range(nest.columns)))
    for _ in range(nest.groups):
        for block in spans(nest.filters, filters):
            for deep in spans(nest.channels, channels):
                held = len(block) * len(deep) * taps
                count["weights"] += held
                count["registers"] += held
                count["neighbours"] += held
                for _ in range(nest.images):
                    count["maps"] += len(deep) * window
                    for _ in range(nest.rows * nest.columns):
                        count["cycles"] += 1
                        count["maps"] += 2 * len(block)
                        count["macs"] += held
                        count["neighbours"] += held + held - len(block)
    return count


def no_local_reuse(nest, summed, filters):
    count = Counter()
    depth = nest.channels * nest.kernel_rows * nest.kernel_columns
    for _ in range(nest.groups * nest.images * nest.rows * nest.columns):
        for block in spans(nest.filters, filters):
            for taps in spans(depth, summed):
                count["cycles"] += 1
                count["maps"] += 2 * len(block) + len(taps)
                count["weights"] += len(block) * len(taps)
                count["macs"] += len(block) * len(taps)
                count["neighbours"] += len(block) * (3 * len(taps) - 1)
    return count


def output_stationary(nest, filters, images, rows, columns):
    count = Counter()
    taps = nest.kernel_rows * nest.kernel_columns
    for _ in range(nest.groups):
        for strip in spans(nest.rows, rows):
            for band in spans(nest.columns, columns):
                area = len(under(nest.row_window, strip)) * len(under(nest.column_window, band))
                for block in spans(nest.images, images):
                    for kernels in spans(nest.filters, filters):
                        outputs = len(strip) * len(band) * len(block) * len(kernels)
                        count["maps"] += outputs
                        for _ in range(nest.channels):
                            count["maps"] += area * len(block)
                            count["cycles"] += taps
                            count["weights"] += len(kernels) * taps
                            count["macs"] += outputs * taps
    count["registers"] = count["neighbours"] = 2 * count["macs"]
    return count
