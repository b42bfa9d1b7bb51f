"""The answer: what will happen on the machine, as plain records.

A `Schedule` is self-contained: it embeds the normalised network and the hardware, so that anyone
can check it without the planner. It says *what* happens and *when*, never how it was found.

How a schedule executes
-----------------------
The compute engine runs `Schedule.computes` in their order, the DMA engine runs
`Schedule.transfers` in theirs. Every command starts as soon as its engine, its data and its space
allow: the cycles in the schedule are exactly those. Steps are no barriers; what they settle is
space, which is claimed and released at their boundaries:

- a **load** starts after all computes of the steps before the first of its buffer, and ends before
  any compute of a step behind the last;
- a **store** ends before any compute of a step behind its ``need_step``, which is its own step or,
  where its buffer stays, a later one; stores keep their order, and stand in the queue before the
  loads into buffers that begin behind their ``need_step``.

A compute waits for the whole loads (``tile`` None) into the buffers that it touches. Within a step
a tile computes after its own loads; a load of tile ``t`` waits for the compute of tile
``t - depth`` (whose rows it overwrites); a store waits for its tile; a compute of tile ``t`` waits
for the store of tile ``t - depth`` where the output is a rolling buffer. A **prefetch** is a whole
load with ``step < need_step``.

A step that computes channels ``[b, e)`` of a layer reads all of an operand, unless the operator
is *channelwise* in it (`Network.operand_channels`): then it reads channels ``[b, e)`` of the
operand only, made up to whole groups, and what is streamed of it are those.

A map may lie inside another (`spm_opt.graph.pieces`): a layer whose output is a piece of a
concatenated map may write those channels of a buffer of that map, and a layer that reads a piece
may read them there, or stream them from there. A concatenation all of whose pieces lie in place,
and a split, then compute nothing.

A layer may add up its input channels a slice at a time (`spm_opt.graph.sums`): until the last ones,
its **partial sums** lie in a buffer of their own.

Where a group runs in **bands** of columns (`spm_opt.graph.bands`) the schedule is one of the
network in which every band is a run of layers of its own. The "channels" of maps that are cut into
columns are columns; layers of the same source read the same constants (`Layer.constants_of`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spm_opt.constraints import NONE, Constraints
from spm_opt.graph.bands import Bands
from spm_opt.graph.network import Network
from spm_opt.hardware import Hardware

FORMAT_VERSION = 2


@dataclass(frozen=True, slots=True)
class Buffer:
    """A range of SPM bytes that one step or several occupy.

    Attributes
    ----------
    name : str
        Unique.
    kind : str
        ``weights``: constants of one slice of a layer, whole;
        ``map``: a whole feature map (pinned, or loaded whole);
        ``input``: rows of a map streamed from DRAM; ``stripe``: rows of an intermediate map;
        ``output``: rows of a map streamed to DRAM;
        ``weight_stream``: weights of the channel tiles; ``channel_input``: channel tiles of a map
        streamed from DRAM, all rows; ``channel_output``: channel tiles of the output on their way
        to DRAM; ``channel_stripe``: a channel tile of an intermediate map; ``sums``: partial sums
        of the tile of a map that is being computed.
    tensor : str
        The feature map, or the layer whose weights these are.
    offset_bytes, size_bytes : int
        SPM address and aligned size.
    count, unit_bytes : int
        The buffer holds `count` units of `unit_bytes`: rows (row ``r`` lies in unit
        ``r % count``), or, for the last four kinds, tiles (tile ``t`` lies in unit ``t % count``);
        1 and the byte count for ``weights``.
    first_step, end_step : int
        Residency: steps ``[first_step, end_step)``.
    channels : (int, int) or None
        Channels ``[begin, end)`` whose weights or values the buffer holds; None for all. Channels
        of a map run along `Network.channel_axes`.
    shares : int or None
        Buffer whose bytes this one takes over, row by row: an element-wise layer writes its output
        over its input. Same address, same units.
    """

    name: str
    kind: str
    tensor: str
    offset_bytes: int
    size_bytes: int
    count: int
    unit_bytes: int
    first_step: int
    end_step: int
    channels: tuple[int, int] | None = None
    shares: int | None = None


@dataclass(frozen=True, slots=True)
class Transfer:
    """One DRAM transfer.

    Attributes
    ----------
    kind : str
        ``load`` or ``store``.
    role : str
        ``map`` or ``weights``.
    tensor : str
        Feature map, or layer whose weights are loaded.
    buffer : int
        Index into `Schedule.buffers`.
    step : int
        Step that it belongs to; of a prefetch one of the steps before, from its claim on.
    need_step : int
        First step that reads what was loaded; last step in which what is stored may still move.
    tile : int or None
        Tile of the step's stream that it belongs to; None for a whole tensor.
    rows : (int, int)
        Rows ``[begin, end)`` of the map; ``(0, 0)`` for weights.
    channels : (int, int) or None
        Output channels of weights, or channels of a map; None for all.
    dram_address : int
        First DRAM byte of the tensor's first moved row (or weight).
    run_bytes, runs : int
        ``runs`` contiguous runs of ``run_bytes`` each.
    moved_bytes : int
        Bytes over the pins: runs rounded up to bursts.
    start_cycle, end_cycle : int
    piece : (int, int) or None
        Bytes ``[begin, end)`` of the constants of `channels` that are moved, where a prefetch is
        cut into pieces that fill the gaps between other transfers; None for all.
    summed : (int, int) or None
        Of constants, the input channels ``[begin, end)`` of each group whose they are, where those
        of some are moved; what follows the sum belongs to the last. None for all.
    """

    kind: str
    role: str
    tensor: str
    buffer: int
    step: int
    need_step: int
    tile: int | None
    rows: tuple[int, int]
    channels: tuple[int, int] | None
    dram_address: int
    run_bytes: int
    runs: int
    moved_bytes: int
    start_cycle: int
    end_cycle: int
    piece: tuple[int, int] | None = None
    summed: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Compute:
    """One tile of one layer on the compute engine.

    Attributes
    ----------
    layer : str
    step, tile : int
    rows : (int, int)
        Output rows ``[begin, end)`` computed now.
    channels : (int, int) or None
        Output channels ``[begin, end)``; None for all.
    inputs : tuple of int
        Buffer of each operand of the layer, in order.
    weights : tuple of int
        Buffers of its constants.
    output : int
        Buffer written; one of ``sums`` where input channels are left to add.
    start_cycle, end_cycle : int
    summed : (int, int) or None
        Input channels ``[begin, end)`` of each group whose products are added now; None for all.
    sums : int or None
        Buffer of the partial sums that it goes on from; None where it begins.
    """

    layer: str
    step: int
    tile: int
    rows: tuple[int, int]
    channels: tuple[int, int] | None
    inputs: tuple[int, ...]
    weights: tuple[int, ...]
    output: int
    start_cycle: int
    end_cycle: int
    summed: tuple[int, int] | None = None
    sums: int | None = None

    @property
    def touched(self) -> tuple[int, ...]:
        """All buffers that it reads or writes, each once, in rising order."""
        sums = () if self.sums is None else (self.sums,)
        return tuple(sorted({*self.inputs, *self.weights, *sums, self.output}))


@dataclass(frozen=True, slots=True)
class Step:
    """One group of layers (or one slice of a layer), run tile by tile.

    Attributes
    ----------
    layers : tuple of str
    channels : (int, int) or None
        Slice of the single layer's output channels; None for whole layers.
    axis : str
        What the tiles cut: ``rows``, ``channels``, ``blocks`` (rows outside, channels inside) or
        ``sums`` (the same, and input channels inside these). In channels and blocks a tile has the
        same channels of all layers.
    tiles : int
    depth : int
        1 where a tile's loads wait for the tile before, 2 where they run beside it.
    halo : str
        ``retain`` or ``recompute``.
    start_cycle, end_cycle : int
        From the end of the last computation before to the end of its own last one.
    """

    layers: tuple[str, ...]
    channels: tuple[int, int] | None
    axis: str
    tiles: int
    depth: int
    halo: str
    start_cycle: int
    end_cycle: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who made the schedule, and how sure they are.

    Attributes
    ----------
    strategy, objective : str
    prefetch : bool
    status : str
        ``optimal`` (proven over the plan space, for the layer order) or ``feasible``.
    objective_value, objective_bound : int
        Cycles, bytes, femtojoules or their product with cycles, by `objective`.
    latency_lower_bound_cycles : int
        No plan of the plan space is faster.
    order : str
        Name of the topological order chosen.
    orders_tried : int
        Orders that the bound covers. Where time was short the plan may be of another one.
    solver : str
        OR-tools version; with `seed`, `workers` and the limits, what repeats the run.
    modelled_latency_cycles : int
        Latency of the same plan if steps were barriers: as the coarser of the two models counts.
    constraints : Constraints
        What the user demanded: everything above is about the plans that meet it.
    candidates, candidates_dropped : int
        Groups under a tiling and a residency pattern that the strategy had to choose from, in the
        order chosen; and of the whole plan space those left out, since others are as good.
    """

    strategy: str
    objective: str
    prefetch: bool
    status: str
    objective_value: int
    objective_bound: int
    latency_lower_bound_cycles: int
    order: str
    orders_tried: int
    solver: str
    seed: int
    workers: int
    time_limit: float
    deterministic_limit: float | None
    solve_seconds: float
    modelled_latency_cycles: int = 0
    constraints: Constraints = NONE
    candidates: int = 0
    candidates_dropped: int = 0


@dataclass(frozen=True, slots=True)
class EnergyClaims:
    """Energy of the whole schedule in femtojoules, by level and by tensor kind.

    ``total_fj`` is the sum of the levels ``mac``, ``register_file``, ``neighbour``, ``vector``,
    ``spm``, ``dram`` and ``leakage``. ``weights_fj`` and ``maps_fj`` share out those of ``spm`` and
    ``dram``.
    """

    total_fj: int
    mac_fj: int
    register_file_fj: int
    neighbour_fj: int
    vector_fj: int
    spm_fj: int
    dram_fj: int
    weights_fj: int
    maps_fj: int
    leakage_fj: int


@dataclass(frozen=True, slots=True)
class Claims:
    """Totals that the planner claims and the checker recomputes.

    ``spm_peak_bytes`` is the highest SPM address used by any buffer, plus one; ``energy`` is None
    where the hardware does not say what events cost.
    """

    latency_cycles: int
    compute_cycles: int
    dram_bytes: int
    dram_weight_bytes: int
    dram_feature_map_bytes: int
    macs: int
    recomputed_macs: int
    spm_peak_bytes: int
    roofline_cycles: int
    energy: EnergyClaims | None = None


@dataclass(frozen=True)
class Schedule:
    """A complete plan: embedded problem, ordered commands, placed buffers, claims."""

    network: Network
    hardware: Hardware
    provenance: Provenance
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    transfers: tuple[Transfer, ...]
    computes: tuple[Compute, ...]
    #: DRAM address of every tensor that DRAM holds: maps by name, weights by "weights:LAYER"
    dram_addresses: dict[str, int]
    claims: Claims
    version: int = field(default=FORMAT_VERSION)
    #: the network as the user gave it, where runs of it are computed in bands of columns, and these
    #: runs: `network` is then what `spm_opt.graph.bands.banded` makes of them
    source: Network | None = None
    bands: tuple[Bands, ...] = ()

    @property
    def origin(self) -> Network:
        """The network as the user gave it."""
        return self.network if self.source is None else self.source
