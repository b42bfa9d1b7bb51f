"""The Python interface: what it wires, what it refuses, what a Result says."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from interface_fakes import fake_schedule, tiny_builder, tiny_hardware, tiny_network

import spm_opt
from spm_opt import InputError, Result, VerificationError
from spm_opt.params import Progress
from spm_opt.progress import STOPPING, ProgressLine, progress_text, run_interruptibly
from spm_opt.report import as_text, comparison_figures, comparison_table

KEYS = {
    "model", "hardware", "strategy", "objective", "status", "latency_cycles",
    "modelled_latency_cycles", "latency_lower_bound_cycles", "gap", "roofline_cycles",
    "compute_cycles", "dram_bytes", "dram_footprint_bytes", "dram_reused_bytes", "macs",
    "energy_fj", "energy_delay_fj_cycles",
    "recomputed_macs", "spm_peak_bytes", "spm_load_bytes", "spm_capacity_bytes", "layers",
    "groups", "fused_layers", "banded_groups", "pinned_feature_maps", "aliased_bytes",
    "solve_seconds", "verified", "order", "orders_tried", "candidates", "constraints",
    "warnings",
}  # fmt: skip


class Planner(ModuleType):
    """Stands in for the planner: remembers what it was asked, answers with made-up schedules."""

    def __init__(self) -> None:
        super().__init__("spm_opt.planner")
        self.calls: list[dict] = []

    def plan(self, network, hardware, params, *, progress=None, stop=None):
        self.calls.append(locals())
        if progress is not None:
            progress(Progress("searching", 0.5, 1000, 900, "latency"))
        return fake_schedule(strategy=params.strategy, objective=params.objective)

    def plan_all(self, network, hardware, params, *, strategies, progress=None, stop=None):
        self.calls.append(locals())
        return tuple(fake_schedule(strategy=strategy) for strategy in strategies)


@pytest.fixture
def planner(monkeypatch):
    fake = Planner()
    monkeypatch.setitem(sys.modules, "spm_opt.planner", fake)
    for name, module in no_checks().items():
        monkeypatch.setitem(sys.modules, name, module)
    return fake


def no_checks() -> dict[str, ModuleType]:
    """Checkers that find nothing, and a lowering that nobody looks at."""
    rooms = {name: ModuleType(name) for name in (
        "spm_opt.verify", "spm_opt.verify.commands", "spm_opt.commands",
    )}  # fmt: skip
    verify, verify_commands, commands = rooms.values()
    verify.verify = lambda schedule: ()
    verify_commands.verify_commands = lambda schedule, stream: ()
    commands.lower = lambda schedule: None
    return rooms


# --- the package ----------------------------------------------------------------------------------


def test_every_public_name_is_there():
    for name in spm_opt.__all__:
        assert getattr(spm_opt, name) is not None
    assert set(spm_opt.__all__) <= set(dir(spm_opt))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'slove'"):
        spm_opt.slove  # noqa: B018


def test_public_functions_are_not_shadowed_by_modules():
    modules = {path.stem for path in Path(spm_opt.__file__).parent.iterdir()}
    assert modules.isdisjoint(set(spm_opt.__all__) - {"__version__"})


def test_importing_the_package_is_cheap():
    code = "import spm_opt, sys; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    for heavy in ("numpy", "networkx", "ortools", "onnx", "pydantic", "rich", "yaml"):
        assert f"'{heavy}'" not in loaded


def test_version_is_that_of_the_project():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert f'\nversion = "{spm_opt.__version__}"\n' in text


# --- solve ----------------------------------------------------------------------------------------


def test_solve_hands_every_parameter_to_the_planner(planner):
    result = spm_opt.solve(
        tiny_builder(), tiny_hardware(), strategy="pin", objective="dram", prefetch=False,
        dtype="int16", time_limit=7.5, workers=3, seed=11, deterministic_limit=2.5, orders=2,
    )  # fmt: skip
    call = planner.calls[0]
    params = call["params"]
    assert (params.strategy, params.objective, params.prefetch) == ("pin", "dram", False)
    assert (params.time_limit, params.workers, params.seed) == (7.5, 3, 11)
    assert (params.deterministic_limit, params.orders) == (2.5, 2)
    assert {tensor.dtype for tensor in call["network"].tensors.values()} == {"int16"}
    assert call["hardware"] == tiny_hardware()
    assert isinstance(call["stop"], threading.Event)
    assert result.strategy == "pin"
    assert result.verified


def test_solve_normalises_the_network(planner):
    builder = tiny_builder()
    builder.output(builder.relu("third"))
    network = replace(builder.build(), outputs=builder.build().outputs[-1:])
    assert len(network.layers) == 4
    spm_opt.solve(network, tiny_hardware())
    assert len(planner.calls[0]["network"].layers) == 3


def test_hardware_may_be_a_name_with_overrides(planner):
    spm_opt.solve(tiny_network(), "mobile_npu", overrides={"spm.capacity": "3 KiB"})
    assert planner.calls[0]["hardware"].spm.capacity_bytes == 3072


def test_a_schedule_that_the_checker_rejects_is_never_returned(planner, monkeypatch):
    monkeypatch.setattr(sys.modules["spm_opt.verify"], "verify", lambda s: ("buffers overlap",))
    with pytest.raises(VerificationError, match=r"buffers overlap\n.*bug.*report") as error:
        spm_opt.solve(tiny_network(), tiny_hardware())
    assert error.value.violations[0] == "buffers overlap"
    with pytest.raises(VerificationError):
        spm_opt.compare(tiny_network(), tiny_hardware(), strategies=["pin"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "best"}, "strategy: unknown choice; found 'best'; allowed: joint"),
        ({"objective": "speed"}, "objective: unknown choice; found 'speed'; allowed: latency"),
        ({"objective": "energy"}, "energy: energy cannot be counted without this block"),
        ({"batch": 0}, "batch: must be at least 1; found 0"),
        ({"batch": 2}, "batch: only a model file has batch"),
        ({"time_limit": 0}, "time_limit: must be positive"),
        ({"time_limit": float("nan")}, "time_limit: must be positive"),
        ({"workers": -1}, "workers: must not be negative; found -1"),
        ({"seed": -1}, "seed: must be in 0"),
        ({"orders": 0}, "orders: must be at least 1"),
        ({"dtype": "int4"}, "dtype: unknown element type; found 'int4'; allowed: int8"),
        ({"overrides": {"spm.capacity": "1 KiB"}}, "overrides: only a hardware file"),
        ({"hardware": "mobile_mpu"}, "no hardware file .*did you mean mobile_npu"),
        ({"model": "mobilenet_v9"}, "no model file and no model of this name"),
        ({"model": "nowhere/net.yaml"}, "nowhere/net.yaml: no such file"),
    ],
)
def test_a_wrong_argument_gets_one_clear_message(planner, arguments, message):
    given = {"model": tiny_network(), "hardware": tiny_hardware(), **arguments}
    with pytest.raises(InputError, match=message):
        spm_opt.solve(**given)
    assert planner.calls == []


def test_a_network_that_computes_nothing_is_refused():
    builder = spm_opt.NetworkBuilder("empty")
    builder.output(builder.flatten(builder.input("x", (1, 4, 2, 2))))
    with pytest.raises(InputError, match="computes nothing"):
        spm_opt.info(builder)


# --- compare --------------------------------------------------------------------------------------


def test_compare_plans_the_strategies_asked_in_their_order(planner):
    results = spm_opt.compare(tiny_network(), tiny_hardware(), strategies=["fuse", "joint"])
    assert [result.strategy for result in results] == ["fuse", "joint"]
    assert planner.calls[0]["strategies"] == ("fuse", "joint")


@pytest.mark.parametrize("strategies", [[], ["pin", "pin"], ["pin", "best"]])
def test_compare_refuses_odd_strategies(planner, strategies):
    with pytest.raises(InputError, match="allowed: joint, fuse, pin, layerwise, greedy"):
        spm_opt.compare(tiny_network(), tiny_hardware(), strategies=strategies)
    assert planner.calls == []


def solved(strategy: str, latency: int, dram: int, objective: str = "latency"):
    schedule = fake_schedule(strategy=strategy, objective=objective)
    claims = replace(schedule.claims, latency_cycles=latency, dram_bytes=dram)
    return Result(replace(schedule, claims=claims)).to_dict()


def test_ratios_are_to_the_best_baseline():
    comparison = comparison_figures(
        [solved("joint", 90, 50), solved("fuse", 120, 40), solved("pin", 100, 80)]
    )
    assert comparison["best_baseline"] == "pin"
    assert comparison["ratios"]["joint"]["latency"] == 0.9
    assert comparison["ratios"]["fuse"]["dram_total"] == 0.5
    assert comparison["ratios"]["pin"] == {
        "latency": 1.0, "dram_total": 1.0, "dram_feature_maps": 1.0, "energy": None
    }  # fmt: skip


def test_the_best_baseline_follows_the_objective():
    solves = [solved("fuse", 120, 40, "dram"), solved("pin", 100, 80, "dram")]
    assert comparison_figures(solves)["best_baseline"] == "fuse"


def test_joint_alone_has_no_baseline():
    comparison = comparison_figures([solved("joint", 90, 50)])
    assert (comparison["best_baseline"], comparison["ratios"]) == (None, {})
    assert "joint" in as_text(comparison_table(comparison))


def test_a_ratio_to_nothing_is_none():
    comparison = comparison_figures([solved("joint", 9, 5), solved("pin", 10, 0)])
    assert comparison["ratios"]["joint"]["dram_total"] is None


# --- Result ---------------------------------------------------------------------------------------


def test_result_has_every_figure_as_a_property_and_in_its_dict():
    result = Result(fake_schedule())
    figures = result.to_dict()
    assert set(figures) == KEYS
    for key in KEYS - {"warnings"}:
        assert getattr(result, key) == figures[key], key
    assert list(result.warnings) == figures["warnings"]
    json.dumps(figures, allow_nan=False)


def test_figures_follow_their_definitions():
    figures = Result(fake_schedule()).to_dict()
    assert figures["gap"] == 0.1
    assert figures["dram_bytes"] == {"total": 700, "weights": 200, "feature_maps": 500}
    assert (figures["layers"], figures["groups"], figures["fused_layers"]) == (3, 2, 2)
    assert figures["pinned_feature_maps"] == 1  # `first`; `second` and the weights do not count
    assert figures["spm_capacity_bytes"] == 2048


def test_a_map_pinned_twice_counts_once():
    schedule = fake_schedule()
    again = replace(schedule.buffers[0], name="first again")
    schedule = replace(schedule, buffers=(*schedule.buffers, again))
    assert Result(schedule).pinned_feature_maps == 1


def test_the_gap_of_nothing_is_zero():
    assert Result(fake_schedule(objective_value=0, objective_bound=0)).gap == 0.0


def test_result_is_frozen():
    with pytest.raises(AttributeError):
        Result(fake_schedule()).verified = False


def test_summary_says_the_main_numbers_in_plain_text():
    text = Result(fake_schedule()).summary()
    for expected in (
        "tiny on toy", "feasible, gap 10.00 %", "1,000 cycles (0.001 ms)", "2.000 times",
        "700 B", "75.00 % of the capacity", "3 in 2 groups", "node 'odd' is opaque",
    ):  # fmt: skip
        assert expected in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_save_refuses_a_file_and_an_impossible_directory(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(InputError, match="file: this is a file, not a directory"):
        Result(fake_schedule()).save(file)
    with pytest.raises(InputError, match=r"below: cannot write here: .*file is not a directory"):
        Result(fake_schedule()).save(file / "below")
    assert file.read_text() == "mine"


def test_save_writes_nothing_where_a_text_cannot_be_made(monkeypatch, tmp_path):
    def fail(schedule):
        raise ValueError("no listing")

    monkeypatch.setattr("spm_opt.result._texts", fail)
    with pytest.raises(ValueError, match="no listing"):
        Result(fake_schedule()).save(tmp_path / "plan")
    assert list(tmp_path.iterdir()) == []


# --- Ctrl-C and progress --------------------------------------------------------------------------


def test_ctrl_c_sets_the_stop_event_and_the_best_so_far_returns(capsys):
    def work(stop: threading.Event) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(5)
        return "best so far"

    before = signal.getsignal(signal.SIGINT)
    assert run_interruptibly(work) == "best so far"
    assert STOPPING in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_aborts():
    release = threading.Event()

    def work(stop: threading.Event) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(5)
        os.kill(os.getpid(), signal.SIGINT)
        release.wait(5)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(work)
    release.set()
    assert time.monotonic() - started < 4


def test_an_error_of_the_work_is_the_callers():
    def work(stop: threading.Event) -> None:
        raise InputError("no good")

    with pytest.raises(InputError, match="no good"):
        run_interruptibly(work)


def test_outside_the_main_thread_the_work_simply_runs():
    seen = []
    thread = threading.Thread(
        target=lambda: seen.append(run_interruptibly(lambda stop: threading.get_ident()))
    )
    thread.start()
    thread.join()
    assert seen == [thread.ident]


def test_an_application_keeps_its_own_signal_handler():
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_interruptibly(lambda stop: signal.getsignal(signal.SIGINT)) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)


def test_progress_text_says_what_is_known():
    assert progress_text(Progress("phase 1", 1.0, None, None, "latency")) == "phase 1"
    assert (
        progress_text(Progress("phase 3", 1.0, 2000, 1900, "dram"))
        == "phase 3, best 2,000 bytes, bound 1,900, gap 5.00 %"
    )


def test_progress_reaches_the_callback(planner):
    seen = []
    spm_opt.solve(tiny_network(), tiny_hardware(), progress=seen.append)
    assert [record.incumbent for record in seen] == [1000]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_live_line_that_disappears(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    with ProgressLine(terminal) as line:
        line(Progress("first", 0.1, None, None, "latency"))
        line(Progress("[b]second[/b]", 0.2, 1000, 900, "latency"))
    line(Progress("too late", 0.3, 1000, 900, "latency"))
    text = terminal.getvalue()
    assert "[b]second[/b], best 1,000 cycles" in text  # the text is no markup
    assert "too late" not in text
    assert text.endswith("\x1b[2K")  # the line is erased


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    with ProgressLine(terminal) as line:
        line(Progress("first", 0.1, None, None, "latency"))
    assert terminal.getvalue() == "[    0.1 s] first\n"


def test_a_log_gets_plain_lines_and_not_too_many(capsys):
    with ProgressLine() as line:
        for value in range(100):
            line(Progress("search", 0.1, 1000 - value, 900, "latency"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "[    0.1 s] search, best 1,000 cycles, bound 900, gap 10.00 %\n"
