"""The command stream as plain records: what each engine is told, in order, and what it waits for.

There are two engines, each runs its commands in order: ``compute`` and ``dma``. A command starts as
soon as its engine is free and the commands that it *waits* for have ended. How a schedule becomes a
stream is told by `spm_opt.commands`.
"""

from __future__ import annotations

from dataclasses import dataclass

from spm_opt.hardware import RAW

FORMAT_VERSION = 1

Channels = tuple[int, int] | None

COMPUTE, DMA = "compute", "dma"


@dataclass(frozen=True, slots=True)
class Window:
    """What a command touches of an operand, as bytes of the scratchpad.

    Row ``r`` of the operand begins at ``base_bytes + (r % held) * pitch_bytes``. Of each row the
    command touches `runs` runs of `run_bytes`, the first at `first_byte`, `run_step_bytes` apart.

    Attributes
    ----------
    buffer : int
        Index into `Schedule.buffers`.
    tensor : str
        Feature map, or layer whose constants these are.
    base_bytes : int
    held : int
        Rows that the window has room for (1 for constants).
    pitch_bytes : int
    rows : (int, int)
        Rows ``[begin, end)`` touched; ``(0, 1)`` for constants.
    channels : (int, int) or None
        Channels of the operand that a row of the window holds from its beginning; None for all.
    touched : (int, int) or None
        Channels that the command touches; None for all.
    summed : (int, int) or None
        Input channels of each group: of constants, those whose they are, one run for each output
        channel, where they are not those of all; of partial sums, those that are in them. Partial
        sums lie as the map's elements would, each in its own number of bytes
        (`spm_opt.graph.sums.sum_bytes`). None for all, and for maps.
    """

    buffer: int
    tensor: str
    base_bytes: int
    held: int
    pitch_bytes: int
    rows: tuple[int, int]
    channels: Channels
    touched: Channels
    first_byte: int
    run_bytes: int
    run_step_bytes: int
    runs: int
    summed: Channels = None


@dataclass(frozen=True, slots=True)
class DramRange:
    """Bytes of DRAM: `runs` runs of `run_bytes`, `run_step_bytes` apart, the first at `address`.

    Each run is compressed by itself to ``share`` parts in 65,536 of its bytes, and lies where it
    would raw.
    """

    address: int
    run_bytes: int
    run_step_bytes: int
    runs: int
    share: int = RAW


@dataclass(frozen=True, slots=True)
class Command:
    """One instruction.

    Attributes
    ----------
    number : int
        Position in the stream: an order that both engines' orders and all waits respect.
    engine : str
        ``compute`` or ``dma``.
    kind : str
        ``load``, ``store`` or ``compute``.
    name : str
        Feature map or layer (constants) that is moved; layer that is computed.
    role : str
        ``map`` or ``weights`` for transfers, empty for computes.
    step, tile : int
        Where it stands in the schedule; tile -1 for whole tensors.
    rows : (int, int)
        Rows moved, or output rows computed; ``(0, 0)`` for constants.
    channels : (int, int) or None
        Channels moved, or output channels computed; None for all.
    waits : tuple of int
        Commands of the other engine that must have ended, in rising order.
    inputs, weights : tuple of Window
        Read by a compute: one for each operand, then the partial sums that it goes on from, if it
        does; constants in as many buffers as there are slices. A store reads its single input.
    output : Window or None
        Written by a compute or a load.
    dram : DramRange or None
        The other side of a transfer.
    cycles : int
        Of a compute; 0 for transfers, whose cycles follow from their bytes.
    prefetch : bool
        A load for a later step, which no barrier before that waits for.
    summed : (int, int) or None
        Input channels of each group whose products a compute adds, or whose constants are moved;
        None for all.
    """

    number: int
    engine: str
    kind: str
    name: str
    role: str
    step: int
    tile: int
    rows: tuple[int, int]
    channels: Channels
    waits: tuple[int, ...]
    inputs: tuple[Window, ...]
    weights: tuple[Window, ...]
    output: Window | None
    dram: DramRange | None
    cycles: int = 0
    prefetch: bool = False
    summed: Channels = None


@dataclass(frozen=True)
class Stream:
    """All commands of a schedule.

    Attributes
    ----------
    commands : tuple of Command
    dram_addresses : mapping of str to int
        Where DRAM holds maps, by name, and constants, by ``weights:LAYER``.
    spm_bytes : int
        Bytes of scratchpad used from address 0.
    """

    commands: tuple[Command, ...]
    dram_addresses: dict[str, int]
    spm_bytes: int
