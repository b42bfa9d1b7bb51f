"""From a model file to a checked schedule, through the real planner and both interfaces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from interface_fakes import tiny_builder, tiny_hardware, tiny_network
from test_cli import one_object, refused

import spm_opt
from spm_opt import SpmTooSmallError
from spm_opt.cli import main
from spm_opt.params import STRATEGIES
from spm_opt.result import FILES

MODEL = """\
name: tiny
inputs:
  image: {shape: [1, 4, 8, 8]}
layers:
- {name: first, op: conv, out_channels: 8, kernel: 3, padding: 1}
- {name: second, op: conv, out_channels: 8, kernel: 3, padding: 1}
- {name: third, op: conv, out_channels: 4, kernel: 1}
"""
QUICK = {"time_limit": 20.0, "workers": 1}


@pytest.fixture(scope="module")
def compared():
    return spm_opt.compare(tiny_builder(), tiny_hardware(), **QUICK)


def test_a_solve_is_verified_and_between_its_limits():
    result = spm_opt.solve(tiny_builder(), tiny_hardware(), **QUICK)
    assert result.verified
    assert 0.0 <= result.gap <= 0.02
    assert (result.status == "optimal") == (result.gap == 0.0)
    assert result.roofline_cycles <= result.latency_lower_bound_cycles <= result.latency_cycles
    assert result.compute_cycles <= result.latency_cycles
    assert result.spm_peak_bytes <= result.spm_capacity_bytes
    assert result.macs == tiny_network().macs
    assert spm_opt.check(result) == ()


def test_every_strategy_is_planned_and_joint_is_never_worse(compared):
    assert tuple(result.strategy for result in compared) == STRATEGIES
    joint = compared[0]
    for result in compared[1:]:
        assert joint.latency_cycles <= result.latency_cycles


def test_baselines_keep_to_what_they_may_do(compared):
    of = {result.strategy: result for result in compared}
    assert of["layerwise"].fused_layers == of["layerwise"].pinned_feature_maps == 0
    assert of["pin"].fused_layers == of["greedy"].fused_layers == 0
    assert of["fuse"].pinned_feature_maps == 0


def test_progress_tells_the_incumbent_and_a_bound_below_it():
    seen = []
    result = spm_opt.solve(tiny_builder(), tiny_hardware(), progress=seen.append, **QUICK)
    assert seen
    known = [record for record in seen if record.incumbent is not None]
    assert min(record.incumbent for record in known) == result.latency_cycles
    assert all(record.bound is None or record.bound <= record.incumbent for record in known)


def test_the_dram_objective_moves_no_more_bytes():
    for_latency, for_dram = (
        spm_opt.solve(tiny_builder(), tiny_hardware(1536), objective=objective, **QUICK)
        for objective in ("latency", "dram")
    )
    assert for_dram.dram_bytes["total"] <= for_latency.dram_bytes["total"]
    assert for_latency.latency_cycles <= for_dram.latency_cycles


def test_info_minimum_is_exactly_where_plans_in_stripes_begin():
    figures = spm_opt.info(tiny_builder(), tiny_hardware())
    least = figures["minimum_spm_bytes"]
    assert spm_opt.solve(tiny_builder(), tiny_hardware(least), **QUICK).verified
    with pytest.raises(SpmTooSmallError) as error:
        spm_opt.solve(tiny_builder(), tiny_hardware(least - 16), tilings="rows", **QUICK)
    assert error.value.layer == figures["minimum_spm_layer"]
    assert error.value.needed_bytes == least


def test_info_minimum_peak_is_where_pinning_spills_nothing():
    network = tiny_network()
    compulsory = sum(network.tensors[name].size_bytes for name in ("image", "third"))
    peak = spm_opt.info(network, tiny_hardware())["minimum_peak_bytes"]
    enough = spm_opt.solve(network, tiny_hardware(peak), strategy="pin", objective="dram", **QUICK)
    assert enough.dram_bytes["feature_maps"] == compulsory


def test_info_minimum_peak_counts_the_input_that_a_single_layer_reads_whole():
    builder = spm_opt.NetworkBuilder("one")
    builder.output(builder.relu(builder.input("x", (1, 16))))
    figures = spm_opt.info(builder, tiny_hardware())
    peak = figures["minimum_peak_bytes"]
    assert peak >= figures["minimum_spm_bytes"]
    enough = spm_opt.solve(builder, tiny_hardware(peak), strategy="pin", objective="dram", **QUICK)
    assert enough.dram_bytes["feature_maps"] == 2 * 16


def test_command_line_from_a_model_file_to_a_checked_schedule(capsys, tmp_path):
    model, plan = tmp_path / "tiny.yaml", tmp_path / "plan"
    model.write_text(MODEL)
    assert main(["solve", str(model), "--json", "--workers", "1", "-o", str(plan)]) == 0
    figures = one_object(capsys.readouterr().out)
    assert (figures["model"], figures["layers"], figures["verified"]) == ("tiny", 3, True)
    assert sorted(path.name for path in plan.iterdir()) == sorted(FILES)
    assert json.loads((plan / "schedule.json").read_text())["network"]["name"] == "tiny"
    assert main(["check", str(plan)]) == 0
    assert capsys.readouterr().out == f"{plan}: valid\n"

    assert main(["info", str(model), "--json"]) == 0
    told = one_object(capsys.readouterr().out)
    assert told["operators"] == {"conv": 3}
    assert told["macs"] == figures["macs"] == 64 * 8 * 4 * 9 + 64 * 8 * 8 * 9 + 64 * 4 * 8


def test_a_scratchpad_that_is_too_small_gets_one_message(capsys, tmp_path):
    model = tmp_path / "tiny.yaml"
    model.write_text(MODEL)
    message = refused(capsys, "solve", str(model), "--set", "spm.capacity=128")
    assert "does not fit the scratchpad in any tiling" in message
    assert "128 bytes are available" in message


def test_ctrl_c_returns_the_best_schedule_so_far():
    command = "import sys; from spm_opt.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", command, "solve", "mobilenet_v1", "--json",
         "--time-limit", "600", "--workers", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).resolve().parent.parent, env=os.environ,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "best" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    figures = one_object(out)
    assert figures["verified"]
    assert figures["status"] == "feasible"
    assert figures["gap"] > 0
