"""What a user calls: `solve`, `compare`, `check`, `simulate`, `info`.

Wires the rooms: reads what the user names, plans, has the checker disbelieve the plan, and
returns a `Result`. It has no rule of its own. Heavy rooms are imported when they are first used.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from spm_opt.errors import InputError, VerificationError
from spm_opt.hardware import Hardware
from spm_opt.params import STRATEGIES, Progress, SolveParams
from spm_opt.progress import run_interruptibly
from spm_opt.report import InfoFigures
from spm_opt.result import COMMANDS_FILE, Result
from spm_opt.schedule import Schedule

if TYPE_CHECKING:
    from spm_opt.graph.builder import NetworkBuilder
    from spm_opt.graph.network import Network
    from spm_opt.simulate import Simulation
    from spm_opt.stream import Stream

PathLike: TypeAlias = "str | os.PathLike[str]"
#: a network, a builder of one, the name of a catalogue model, or the path of a model file
ModelLike: TypeAlias = "Network | NetworkBuilder | str | os.PathLike[str]"
#: an accelerator, the name of one in the catalogue, or the path of a hardware file
HardwareLike: TypeAlias = "Hardware | str | os.PathLike[str]"
#: shares of elements that are not zero, by tensor, or the path of a table of them
Densities: TypeAlias = "Mapping[str, float] | str | os.PathLike[str]"
ProgressCallback: TypeAlias = Callable[[Progress], None]


def solve(
    model: ModelLike,
    hardware: HardwareLike = "mobile_npu",
    *,
    strategy: str = "joint",
    objective: str = "latency",
    prefetch: bool = True,
    dtype: str | None = None,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    time_limit: float = 60.0,
    workers: int = 0,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    progress: ProgressCallback | None = None,
    deterministic_limit: float | None = None,
    orders: int = 4,
    aliases: bool = True,
    cycles: PathLike | None = None,
    densities: Densities | None = None,
    interleave: str = "auto",
    tilings: str = "all",
    pin: Iterable[str] = (),
    no_pin: Iterable[str] = (),
    fuse: Iterable[str | Iterable[str]] = (),
    no_fuse: Iterable[str | Iterable[str]] = (),
    order: Iterable[str] | PathLike = (),
) -> Result:
    """Plan one network on one accelerator, and check the plan.

    Ctrl-C ends the search and returns the best schedule so far, as the time limit does; a second
    Ctrl-C aborts.

    Parameters
    ----------
    model : Network, NetworkBuilder, str or path
        A network, a catalogue name (``"mobilenet_v2"``) or a YAML or ONNX file.
    hardware : Hardware, str or path
        An accelerator, a catalogue name (``"mobile_npu"``) or a YAML file.
    strategy : str
        One of `spm_opt.params.STRATEGIES`.
    objective : str
        ``"latency"`` (cycles, then DRAM bytes) or ``"dram"`` (bytes, then cycles).
    prefetch : bool
        Whether weights may be loaded before the step that reads them.
    dtype : str, optional
        Element type to plan in (``int8``, ``int16``, ``float16``, ``float32``); the model's own
        by default.
    batch : int, optional
        Extent of the batch axis of a model file; the file's own by default.
    dims : mapping of str to int, optional
        Extents of symbolic dimensions of an ONNX file.
    time_limit : float
        Seconds of wall clock.
    workers : int
        Search workers; 0 means one per core.
    seed : int
        Seed of the search.
    overrides : mapping of str to str, optional
        Fields of the hardware file to replace, as ``{"spm.capacity": "256 KiB"}``.
    progress : callable, optional
        Called with `Progress` records from another thread while the solve runs.
    deterministic_limit : float, optional
        Limit in the solver's deterministic time; with one worker and a seed, runs repeat.
    orders : int
        Topological orders to try on branchy networks.
    aliases : bool
        Whether maps may lie over or inside others.
    cycles : path, optional
        CSV of measured kernels (``layer,rows,cycles`` or ``layer,tiles,cycles``) that replaces the
        compute model for the layers that it names.
    densities : mapping of str to float, or path, optional
        Shares of elements that are not zero, 0 to 1, by tensor, or a CSV of them
        (``tensor,density``): what compression in DRAM and zero gating count with.
    interleave : str
        Whether prefetches may be cut to fill the gaps between streams: ``"on"``, ``"off"``, or
        ``"auto"`` (where that costs nothing, so that the optimum can be proven).
    tilings : str
        ``"all"``, or ``"rows"``: no bands of columns, blocks, partial sums, or runs of layers in
        channel tiles.
    pin, no_pin : iterable of str
        Feature maps that are kept whole in SPM from their birth to their last reader and never
        spilled; and maps that are never whole in SPM. A layer's name means what it writes.
    fuse, no_fuse : iterable of iterable of str
        Groups of layers (``[("a", "b")]`` or ``["a,b"]``) that run in one group; and of which no
        two do.
    order : iterable of str, or path
        Every layer in the order in which they are to run, or a file with one name a line.

    Returns
    -------
    Result

    Raises
    ------
    InputError
        If the model, the hardware or a parameter is wrong, or no plan meets the demands.
    SpmTooSmallError
        If a layer fits the scratchpad in no tiling.
    SolverError
        If the solver contradicts itself or stops without any schedule.
    VerificationError
        If the checker rejects the plan, which is a bug of spm_opt.
    """
    params = SolveParams(
        strategy=strategy,
        objective=objective,
        prefetch=prefetch,
        time_limit=time_limit,
        deterministic_limit=deterministic_limit,
        workers=workers,
        seed=seed,
        orders=orders,
        aliases=aliases,
        interleave=interleave,
        tilings=tilings,
    )
    machine = load_hardware(hardware, overrides)
    network = load_network(
        model, dtype=dtype, batch=batch, dims=dims, cycles=cycles, densities=densities
    )
    _require_energies(network, machine, hardware, params)
    if any((pin, no_pin, fuse, no_fuse, order)):
        from spm_opt.demands import demands
        from spm_opt.formats.order_text import read_order

        names = read_order(order) if isinstance(order, (str, os.PathLike)) else order
        wanted = demands(
            _source(model, batch, dims), network, pin=pin, no_pin=no_pin, fuse=fuse,
            no_fuse=no_fuse, order=names,
        )  # fmt: skip
        params = replace(params, constraints=wanted)

    def work(stop: threading.Event) -> Result:
        from spm_opt.planner import plan

        schedule = plan(network, machine, params, progress=progress, stop=stop)
        return replace(_checked(schedule), params=params)

    return run_interruptibly(work)


def compare(
    model: ModelLike,
    hardware: HardwareLike = "mobile_npu",
    *,
    strategies: Sequence[str] = STRATEGIES,
    objective: str = "latency",
    prefetch: bool = True,
    dtype: str | None = None,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    time_limit: float = 60.0,
    workers: int = 0,
    seed: int = 0,
    overrides: Mapping[str, str] | None = None,
    progress: ProgressCallback | None = None,
    deterministic_limit: float | None = None,
    orders: int = 4,
    aliases: bool = True,
    cycles: PathLike | None = None,
    densities: Densities | None = None,
    interleave: str = "auto",
    tilings: str = "all",
) -> tuple[Result, ...]:
    """Plan one network with several strategies, on the same machine model.

    The joint strategy starts from the other plans, so it is never worse than any of them.

    Parameters
    ----------
    strategies : sequence of str
        Which strategies, in the order of the answer; all by default.
    model, hardware, objective, prefetch, dtype, batch, dims, time_limit, workers, seed, \
overrides, progress, deterministic_limit, orders, aliases, cycles, densities, interleave, tilings
        As in `solve`.

    Returns
    -------
    tuple of Result
        One for each strategy, in their order.

    Raises
    ------
    SpmOptError
        As `solve` does.
    """
    if not strategies or len(set(strategies)) != len(strategies):
        raise InputError(
            "name each strategy once",
            field="strategies",
            found=",".join(strategies),
            allowed=STRATEGIES,
        )
    params = SolveParams(
        objective=objective,
        prefetch=prefetch,
        time_limit=time_limit,
        deterministic_limit=deterministic_limit,
        workers=workers,
        seed=seed,
        orders=orders,
        aliases=aliases,
        interleave=interleave,
        tilings=tilings,
    )
    for strategy in strategies:
        replace(params, strategy=strategy)  # raises where there is no such strategy
    machine = load_hardware(hardware, overrides)
    network = load_network(
        model, dtype=dtype, batch=batch, dims=dims, cycles=cycles, densities=densities
    )
    _require_energies(network, machine, hardware, params)

    def work(stop: threading.Event) -> tuple[Result, ...]:
        from spm_opt.planner import plan_all

        schedules = plan_all(
            network, machine, params, strategies=tuple(strategies), progress=progress, stop=stop
        )
        return tuple(_checked(schedule) for schedule in schedules)

    return run_interruptibly(work)


def check(schedule: PathLike | Schedule | Result) -> tuple[str, ...]:
    """Every rule of the machine that a schedule breaks; empty where it is valid.

    Parameters
    ----------
    schedule : path, Schedule or Result
        A ``schedule.json``, the directory that holds it, or the schedule itself. A
        ``commands.json`` beside the file is checked too.

    Raises
    ------
    InputError
        If a file cannot be read, or is no schedule or command stream.
    """
    from spm_opt.verify import verify
    from spm_opt.verify.commands import verify_commands

    if isinstance(schedule, (Schedule, Result)):
        found = schedule.schedule if isinstance(schedule, Result) else schedule
        return _violations(found)
    read = load_schedule(schedule)
    file = schedule_path(schedule).with_name(COMMANDS_FILE)
    violations = verify(read)
    if violations or not file.exists():
        return violations or _violations(read)
    return verify_commands(read, load_commands(file))


def info(
    model: ModelLike,
    hardware: HardwareLike = "mobile_npu",
    *,
    dtype: str | None = None,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> InfoFigures:
    """What a network holds and needs, as the mapping that ``spm-opt info --json`` prints.

    Parameters
    ----------
    model, hardware, dtype, batch, dims, overrides
        As in `solve`; the hardware gives alignment and tile shapes to the two minimum sizes.

    Raises
    ------
    InputError
        If the model or the hardware is wrong.
    """
    from spm_opt.inventory import network_figures

    machine = load_hardware(hardware, overrides)
    return network_figures(load_network(model, dtype=dtype, batch=batch, dims=dims), machine)


def load_network(
    model: ModelLike,
    *,
    dtype: str | None = None,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    cycles: PathLike | None = None,
    densities: Densities | None = None,
) -> Network:
    """The normalised network that `model` names, planned in `dtype`, with measured `cycles`.

    `densities` are shares of elements that are not zero, by tensor.

    Raises
    ------
    InputError
        If it cannot be read, is inconsistent, or computes nothing.
    """
    from spm_opt.graph.normalize import normalize

    source = _source(model, batch, dims)
    if densities is not None:
        source = _with_densities(source, densities)
    network = normalize(source)
    if not network.layers:
        raise InputError("the network computes nothing", field=network.name)
    network = network if dtype is None else network.with_dtype(dtype)
    if cycles is None:
        return network
    from spm_opt.formats.cycles_csv import with_measured_cycles

    return with_measured_cycles(network, os.fspath(cycles))


def _with_densities(network: Network, densities: Densities) -> Network:
    from spm_opt.formats.density_csv import density_ppm, read_densities
    from spm_opt.graph.densities import with_densities

    if isinstance(densities, Mapping):
        found = {name: density_ppm(share, f"densities.{name}") for name, share in densities.items()}
        return with_densities(network, found)
    path = os.fspath(densities)
    try:
        return with_densities(network, read_densities(path))
    except InputError as error:
        raise error if error.file else error.in_file(path) from None


def _source(model: ModelLike, batch: int | None, dims: Mapping[str, int] | None) -> Network:
    """The network that `model` names, as it is written there."""
    from spm_opt.graph.network import Network

    if batch is not None and batch < 1:
        raise InputError("must be at least 1", field="batch", found=batch)
    if isinstance(model, (str, os.PathLike)):
        from spm_opt.formats.catalogue import read_model

        return read_model(os.fspath(model), batch=batch, dims=dims)
    if batch is not None or dims:
        field = "batch" if batch is not None else "dims"
        raise InputError(f"only a model file has {field} that can be set", field=field)
    return model if isinstance(model, Network) else model.build()


def load_hardware(hardware: HardwareLike, overrides: Mapping[str, str] | None = None) -> Hardware:
    """The accelerator that `hardware` names, some fields of its file replaced.

    Raises
    ------
    InputError
        If it cannot be read, a field is wrong, or a `Hardware` is given with overrides.
    """
    if isinstance(hardware, Hardware):
        if overrides:
            raise InputError(
                "only a hardware file has fields to override; use dataclasses.replace",
                field="overrides",
            )
        return hardware
    from spm_opt.formats.catalogue import find_hardware
    from spm_opt.formats.hardware_yaml import read_hardware

    return read_hardware(find_hardware(os.fspath(hardware)), dict(overrides or {}))


def _require_energies(
    network: Network, machine: Hardware, hardware: HardwareLike, params: SolveParams
) -> None:
    """Refuse an objective that needs energies which the accelerator does not say."""
    if not params.counts_energy:
        return
    from spm_opt.energy import require_energies
    from spm_opt.formats.catalogue import find_hardware

    try:
        require_energies(network, machine)
    except InputError as error:
        file = None if isinstance(hardware, Hardware) else find_hardware(os.fspath(hardware))
        raise (error if file is None else error.in_file(str(file))) from None


def simulate(schedule: PathLike | Schedule | Result) -> Simulation:
    """The command stream of a schedule, run by the two engines.

    Parameters
    ----------
    schedule : path, Schedule or Result
        A ``schedule.json`` or the directory that holds it, of which the ``commands.json`` beside it
        is run where there is one; or the schedule itself.

    Raises
    ------
    InputError
        If a file cannot be read, the schedule is invalid, or its commands cannot be run.
    """
    from spm_opt.simulate import simulate as run

    if isinstance(schedule, (Schedule, Result)):
        found = schedule.schedule if isinstance(schedule, Result) else schedule
        return run(_lowered(found, None), found.hardware)
    found, file = load_schedule(schedule), schedule_path(schedule)
    commands = file.with_name(COMMANDS_FILE)
    stream = load_commands(commands) if commands.exists() else _lowered(found, str(file))
    try:
        return run(stream, found.hardware)
    except InputError as error:
        raise error.in_file(str(commands)) from None


def schedule_path(path: PathLike) -> Path:
    """The ``schedule.json`` that `path` is, or that lies in the directory `path`."""
    file = Path(path)
    return file / "schedule.json" if file.is_dir() else file


def load_schedule(path: PathLike) -> Schedule:
    """Read a ``schedule.json``, or the one in a directory.

    Raises
    ------
    InputError
        If it cannot be read, or is no schedule.
    """
    from spm_opt.formats.schedule_json import schedule_from_json

    file = schedule_path(path)
    try:
        return schedule_from_json(_text(file, "schedule"))
    except InputError as error:
        raise error.in_file(str(file)) from None


def load_commands(path: PathLike) -> Stream:
    """Read a ``commands.json``.

    Raises
    ------
    InputError
        If it cannot be read, or is no command stream.
    """
    from spm_opt.formats.commands_json import commands_from_json

    file = Path(path)
    return commands_from_json(_text(file, "commands"), str(file))


def _text(file: Path, what: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"cannot read the {what}: {reason}", file=str(file)) from None


def _lowered(schedule: Schedule, file: str | None) -> Stream:
    """The commands of a schedule that is valid."""
    from spm_opt.commands import lower
    from spm_opt.verify import verify

    violations = verify(schedule)
    if violations:
        more = f", and {len(violations) - 1} more" if len(violations) > 1 else ""
        raise InputError(f"the schedule is invalid: {violations[0]}{more}", file=file)
    return lower(schedule)


def _violations(schedule: Schedule) -> tuple[str, ...]:
    """Rules that a schedule breaks, and its command stream where it breaks none."""
    from spm_opt.commands import lower
    from spm_opt.verify import verify
    from spm_opt.verify.commands import verify_commands

    return verify(schedule) or verify_commands(schedule, lower(schedule))


def _checked(schedule: Schedule) -> Result:
    violations = _violations(schedule)
    if violations:
        raise VerificationError(
            (*violations, "this is a bug of spm_opt, not of your input: please report it")
        )
    return Result(schedule)
