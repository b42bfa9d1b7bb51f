"""The command line: one JSON object, one message, the promised exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import typer.main
from interface_fakes import fake_schedule, tiny_builder
from schedule_fixture import fused
from test_api import KEYS, Planner, no_checks

import spm_opt.api
from spm_opt import GraphError, SolverError, SpmTooSmallError, __version__
from spm_opt.cli import app, main, parse_overrides
from spm_opt.progress import STOPPING
from spm_opt.result import FILES, Result

COMMANDS = typer.main.get_command(app).commands
TEXTS = {
    "trace.json": "{}",
    "allocation.csv": "a\n", "layers.csv": "l\n", "listing.txt": "t\n", "commands.json": "c\n",
}  # fmt: skip


@pytest.fixture
def planner(monkeypatch):
    """The command line over a made-up planner, checker and writers, and a model named ``tiny``."""
    fake = Planner()
    read = spm_opt.api.load_network
    monkeypatch.setattr(
        spm_opt.api,
        "load_network",
        lambda model, **how: read(tiny_builder() if model == "tiny" else model, **how),
    )
    rooms = {
        "planner": fake,
        "simulate": room(
            simulate=lambda stream, hardware: SimpleNamespace(causes=()),
            Cause=object,
            Simulation=object,
        ),
        "emit.listing": room(listing=lambda schedule, *run: TEXTS["listing.txt"]),
        "trace": room(trace_json=lambda schedule, *run: TEXTS["trace.json"]),
        "formats.commands_json": room(commands_to_json=lambda stream: TEXTS["commands.json"]),
        "formats.tables": room(
            allocation_csv=lambda schedule: TEXTS["allocation.csv"],
            layers_csv=lambda schedule: TEXTS["layers.csv"],
        ),
        "formats.schedule_json": room(
            schedule_to_json=lambda schedule: '{"made": "up"}\n',
            schedule_from_json=lambda text: fake_schedule(),
        ),
    }
    for name, module in no_checks().items():
        monkeypatch.setitem(sys.modules, name, module)
    for name, module in rooms.items():
        monkeypatch.setitem(sys.modules, f"spm_opt.{name}", module)
    return fake


def room(**functions) -> ModuleType:
    module = ModuleType("fake")
    vars(module).update(functions)
    return module


def one_object(text: str) -> dict:
    """`text` as exactly one JSON object: no line before it, none after."""
    value, end = json.JSONDecoder().raw_decode(text)
    assert text[end:] == "\n"
    assert isinstance(value, dict)
    return value


def refused(capsys, *arguments: str) -> str:
    """The one message of a command line that must fail with exit code 1."""
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("spm-opt: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


# --- solve and compare ----------------------------------------------------------------------------


def test_solve_prints_exactly_one_json_object(planner, capsys):
    assert main(["solve", "tiny", "--json"]) == 0
    captured = capsys.readouterr()
    figures = one_object(captured.out)
    assert set(figures) == KEYS
    assert set(figures["dram_bytes"]) == {"total", "weights", "feature_maps"}
    assert figures["verified"] is True
    assert "best 1,000 cycles, bound 900, gap 10.00 %" in captured.err
    assert "warning: node 'odd' is opaque" in captured.err


def test_solve_prints_a_table_for_people(planner, capsys):
    assert main(["solve", "tiny"]) == 0
    captured = capsys.readouterr()
    assert "feasible, gap 10.00 %" in captured.out
    assert "1,000 cycles (0.001 ms)" in captured.out
    assert "odd" not in captured.out  # warnings go to standard error, once
    assert captured.err.count("node 'odd'") == 1


def test_solve_passes_every_option_on(planner):
    arguments = (
        "solve tiny --hw soma_edge --strategy greedy --objective dram --prefetch off --dtype int16 "
        "--time-limit 2.5 --deterministic-limit 4 --workers 2 --seed 9 --orders 3 --interleave on "
        "--set spm.capacity=256KiB --set dram.bandwidth=1GB/s"
    )
    assert main([*arguments.split(), "--set", "spm.capacity=128 KiB"]) == 0
    call = planner.calls[0]
    params, hardware = call["params"], call["hardware"]
    assert (params.strategy, params.objective, params.prefetch) == ("greedy", "dram", False)
    assert (params.time_limit, params.deterministic_limit) == (2.5, 4)
    assert (params.workers, params.seed, params.orders) == (2, 9, 3)
    assert params.interleave == "on"
    assert (hardware.name, hardware.spm.capacity_bytes) == ("soma_edge", 128 * 1024)
    assert hardware.dram.bytes_per_cycle == 1
    assert {tensor.dtype for tensor in call["network"].tensors.values()} == {"int16"}


def test_the_defaults_are_those_that_the_help_promises(planner):
    assert main(["solve", "tiny"]) == 0
    params = planner.calls[0]["params"]
    assert planner.calls[0]["hardware"].name == "mobile_npu"
    assert (params.strategy, params.objective, params.prefetch) == ("joint", "latency", True)
    assert (params.time_limit, params.workers, params.seed) == (60.0, 0, 0)
    assert params.interleave == "auto"


def test_solve_writes_its_files(planner, capsys, tmp_path):
    folder = tmp_path / "new" / "plan"
    assert main(["solve", "tiny", "--json", "-o", str(folder)]) == 0
    one_object(capsys.readouterr().out)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    for name, text in TEXTS.items():
        assert (folder / name).read_text() == text


def test_compare_prints_one_json_object_with_a_solve_each(planner, capsys):
    assert main(["compare", "tiny", "--strategies", "joint, pin,fuse", "--json"]) == 0
    comparison = one_object(capsys.readouterr().out)
    assert set(comparison) == {"model", "hardware", "strategies", "best_baseline", "ratios"}
    assert [solve["strategy"] for solve in comparison["strategies"]] == ["joint", "pin", "fuse"]
    assert all(set(solve) == KEYS for solve in comparison["strategies"])
    assert comparison["best_baseline"] == "pin"
    assert comparison["ratios"]["joint"]["latency"] == 1.0


def test_compare_runs_every_strategy_by_default_and_prints_a_row_each(planner, capsys, tmp_path):
    assert main(["compare", "tiny", "-o", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for strategy in ("joint", "fuse", "pin", "layerwise", "greedy"):
        assert len([line for line in out.splitlines() if line.split()[:1] == [strategy]]) == 1
        assert (tmp_path / strategy / "schedule.json").is_file()
    assert "ratios to fuse, the best baseline" in out


# --- check ----------------------------------------------------------------------------------------


def test_check_accepts_a_valid_schedule_by_file_and_by_directory(planner, capsys, tmp_path):
    file = tmp_path / "schedule.json"
    file.write_text("{}")
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: valid\n"
    assert main(["check", str(tmp_path), "--json"]) == 0
    report = one_object(capsys.readouterr().out)
    assert report == {"schedule": str(tmp_path), "valid": True, "violations": []}


def test_check_lists_violations_and_exits_with_2(planner, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys.modules["spm_opt.verify"], "verify", lambda s: ("a overlaps b", "c"))
    file = tmp_path / "schedule.json"
    file.write_text("{}")
    assert main(["check", str(file)]) == 2
    assert capsys.readouterr().out == f"{file}: 2 violations\na overlaps b\nc\n"
    assert main(["check", str(file), "--json"]) == 2
    assert one_object(capsys.readouterr().out)["violations"] == ["a overlaps b", "c"]


def test_check_of_no_file_is_an_error_not_a_violation(planner, capsys, tmp_path):
    message = refused(capsys, "check", str(tmp_path))
    assert "schedule.json: cannot read the schedule: No such file or directory" in message
    binary = tmp_path / "schedule.json"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "it is not UTF-8 text" in refused(capsys, "check", str(binary))


# --- list, version, help --------------------------------------------------------------------------


def test_list_names_the_catalogue(capsys):
    assert main(["list", "--json"]) == 0
    catalogue = one_object(capsys.readouterr().out)
    assert set(catalogue) == {"models", "hardware"}
    assert "mobile_npu" in catalogue["hardware"]
    assert main(["list"]) == 0
    assert "\n  mobile_npu\n" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"spm-opt {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there(shell):
    script = Path(sys.executable).parent / "spm-opt"
    # without a parent shell to look at, the shell is named
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    asked = subprocess.run(
        [script, "--show-completion", shell], capture_output=True, text=True, env=environment
    )
    assert asked.returncode == 0
    assert "_SPM_OPT_COMPLETE" in asked.stdout
    if shell == "bash":
        words = {"COMP_WORDS": "spm-opt so", "COMP_CWORD": "1"}
        done = subprocess.run(
            [script], capture_output=True, text=True,
            env={**os.environ, **words, "_SPM_OPT_COMPLETE": "complete_bash"},
        )  # fmt: skip
        assert done.stdout.split() == ["solve"]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_help_has_examples_that_are_commands(capsys, command):
    assert main([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    examples = lines[lines.index("  Examples:" if "  Examples:" in lines else "Examples:") + 2 :]
    found = [line.split("||")[0].split() for line in examples if "spm-opt " in line]
    assert found
    for program, name, *rest in found:
        assert (program, name) == ("spm-opt", command)
        known = {option for p in COMMANDS[command].params for option in p.opts}
        assert {word for word in rest if word.startswith("-")} <= known


def test_quiet_says_nothing_on_standard_error(planner, capsys, tmp_path):
    for words in (["solve", "tiny"], ["compare", "tiny", "--strategies", "pin"]):
        assert main([*words, "--quiet", "-o", str(tmp_path / words[0])]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        assert captured.out
    (tmp_path / "alone").mkdir()
    (tmp_path / "solve" / "schedule.json").rename(tmp_path / "alone" / "schedule.json")
    assert main(["check", str(tmp_path / "alone"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_solve_passes_demands_on(planner, monkeypatch, tmp_path):
    monkeypatch.setattr(spm_opt.api, "_source", lambda *given: tiny_builder().build())
    order = tmp_path / "order.txt"
    order.write_text("first\nsecond\nthird\n")
    words = "solve tiny --pin second --no-pin first --fuse first,second --no-fuse second,third"
    assert main([*words.split(), "--order", str(order)]) == 0
    wanted = planner.calls[0]["params"].constraints
    assert (wanted.pin, wanted.no_pin) == (("second",), ("first",))
    assert (wanted.fuse, wanted.no_fuse) == ((("first", "second"),), (("second", "third"),))
    assert wanted.order == ("first", "second", "third")


@pytest.mark.parametrize("command", ["solve", "compare", "check", "info", "list", None])
def test_every_help_states_the_exit_codes(capsys, command):
    assert main([command, "--help"] if command else ["--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for code in ("0 done", "1 an input", "2 `check` found", "130 aborted"):
        assert code in out


def test_help_imports_nothing_heavy_and_is_quick():
    code = (
        "import sys\nfrom spm_opt.cli import main\nmain(['--help'])\n"
        "print({m.split('.')[0] for m in sys.modules}, file=sys.stderr)"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = os.times()
    for heavy in ("numpy", "networkx", "ortools", "onnx", "rich", "yaml"):
        assert f"'{heavy}'" not in done.stderr
    # processor time: other work on the machine does not count (benchmarks/plan.py has wall clock)
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system <= 0.5


def test_the_installed_command_returns_its_exit_code():
    script = Path(sys.executable).parent / "spm-opt"
    done = subprocess.run([script, "solve"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "spm-opt: error: Missing argument 'MODEL'. (try: spm-opt solve --help)\n"
    )


def test_a_reader_that_leaves_is_no_traceback():
    done = subprocess.run(
        f"{sys.executable} -c 'from spm_opt.cli import main; exit(main())' list | true",
        shell=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""


def test_a_name_that_the_terminal_cannot_spell_is_no_traceback():
    code = "import sys; from spm_opt.cli import main; sys.exit(main(['info', 'caf\\u00e9\\udc80']))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "caf" in done.stderr


def test_a_second_ctrl_c_ends_the_command_at_once():
    code = """
import os, signal, sys, time
sys.path.insert(0, "tests")
import test_api
def plan(*_, stop, **__):
    os.kill(os.getpid(), signal.SIGINT)
    stop.wait(5)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
planner = sys.modules["spm_opt.planner"] = test_api.Planner()
planner.plan = plan
import spm_opt.api
spm_opt.api.load_network = lambda model, **how: test_api.tiny_network()
from spm_opt.cli import main
sys.exit(main(["solve", "tiny", "--json"]))
"""
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines() == [STOPPING, "spm-opt: aborted"]


# --- one message each -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("frob", "No such command 'frob'"),
        ("solve", "Missing argument 'MODEL'"),
        ("solve tiny extra", "extra"),
        ("solve tiny --nope", "No such option: --nope"),
        ("solve tiny --batch two", "--batch"),
        ("solve tiny --batch -1", "batch: must be at least 1; found -1"),
        ("solve tiny --batch 0", "batch: must be at least 1; found 0"),
        ("solve tiny --strategy best", "strategy: unknown choice; found 'best'; allowed: joint,"),
        ("solve tiny --objective speed", "objective: unknown choice; found 'speed'; allowed: lat"),
        ("solve tiny --prefetch yes", "--prefetch: unknown choice; found 'yes'; allowed: on, off"),
        ("solve tiny --dtype int4", "dtype: unknown element type; found 'int4'; allowed: int8"),
        ("solve tiny --time-limit 0", "time_limit: must be positive; found 0"),
        ("solve tiny --workers -2", "workers: must not be negative; found -2"),
        ("solve tiny --seed -2", "seed: must be in 0 .. 2147483647; found -2"),
        ("solve tiny --set spm.capacity", "--set: no setting; found 'spm.capacity'; allowed: FIE"),
        ("solve tiny --set =4KiB", "--set: no setting; found '=4KiB'"),
        ("solve tiny --set spm.capacity=", "--set: no setting; found 'spm.capacity='"),
        ("solve tiny --set spm.colour=red", "--set spm.colour: this field cannot be set; allowed"),
        ("solve tiny --set spm.capacity=big", "--set spm.capacity: "),
        ("solve tiny --hw mobile_mpu", "did you mean mobile_npu"),
        ("solve no/such/net.onnx", "no/such/net.onnx: no such file"),
        ("compare tiny --strategies pin,pin", "strategies: name each strategy once; found 'pin,p"),
        ("compare tiny --strategies ,", "strategies: name each strategy once"),
        ("info nothing_here", "no model file and no model of this name in the catalogue"),
        ("check", "Missing argument 'SCHEDULE'"),
    ],
)
def test_a_wrong_command_line_gets_one_message(planner, capsys, line, message):
    assert message in refused(capsys, *line.split())
    assert planner.calls == []


def test_a_usage_error_points_to_the_help(capsys):
    assert "(try: spm-opt solve --help)" in refused(capsys, "solve")


def test_an_output_that_is_a_file_fails_before_the_solve(planner, capsys, tmp_path):
    file = tmp_path / "taken"
    file.write_text("mine")
    message = refused(capsys, "solve", "tiny", "-o", str(file))
    assert f"{file}: this is a file, not a directory" in message
    message = refused(capsys, "compare", "tiny", "-o", str(file / "below"))
    assert f"below: cannot write here: {file} is not a directory" in message
    assert planner.calls == []
    assert file.read_text() == "mine"


def test_an_unwritable_output_fails_before_the_solve(planner, monkeypatch, capsys, tmp_path):
    # permissions do not stop root, so the question is asked for them
    monkeypatch.setattr("os.access", lambda path, mode: False)
    message = refused(capsys, "solve", "tiny", "-o", str(tmp_path / "new"))
    assert f"{tmp_path / 'new'}: cannot write here: permission denied" in message
    assert planner.calls == []


@pytest.mark.parametrize(
    "error",
    [
        GraphError("the graph has a cycle: a -> b", file="net.yaml"),
        SpmTooSmallError("fc", 4096, 1024),
        SolverError("no schedule within the time limit"),
    ],
)
def test_an_error_of_the_library_is_one_message(planner, monkeypatch, capsys, tmp_path, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(planner, "plan", fail)
    message = refused(capsys, "solve", "tiny", "--json", "-o", str(tmp_path / "plan"))
    assert message == f"spm-opt: error: {error}\n"
    assert list(tmp_path.iterdir()) == []


def test_settings_keep_what_follows_the_first_equals_sign():
    assert parse_overrides(["a.b=c=d", " x = 1 GHz "]) == {"a.b": "c=d", "x": "1 GHz"}


# --- with the real checker and writers ------------------------------------------------------------


def test_a_saved_schedule_checks_and_a_corrupted_one_does_not(capsys, tmp_path):
    saved = Result(fused()).save(tmp_path / "plan")
    assert [path.name for path in saved] == list(FILES)
    assert all(path.stat().st_size for path in saved)
    assert main(["check", str(tmp_path / "plan")]) == 0

    file = tmp_path / "plan" / "schedule.json"
    text = file.read_text()
    claimed = f'"latency_cycles": {fused().claims.latency_cycles}'
    assert text.count(claimed) == 1
    file.write_text(text.replace(claimed, '"latency_cycles": 1'))
    capsys.readouterr()
    assert main(["check", str(file), "--json"]) == 2
    report = one_object(capsys.readouterr().out)
    assert not report["valid"]
    assert any("latency_cycles" in violation for violation in report["violations"])


def test_a_truncated_schedule_is_an_error_that_names_the_file(capsys, tmp_path):
    (file,) = [p for p in Result(fused()).save(tmp_path) if p.name == "schedule.json"]
    file.write_text(file.read_text()[:1000])
    message = refused(capsys, "check", str(tmp_path))
    assert f"{file}: " in message
    assert "no JSON" in message


@pytest.mark.parametrize("setting", ["seq", "=4", "seq=", "seq=x", "seq=-1"])
def test_a_dimension_that_is_none_is_refused(capsys, setting):
    message = refused(capsys, "solve", "mobilenet_v2", "--dim", setting)
    assert "--dim: no dimension" in message
    assert "NAME=N" in message


def test_only_onnx_files_have_symbolic_dimensions(capsys):
    assert "only ONNX files have symbolic dimensions" in refused(
        capsys, "info", "mobilenet_v2", "--dim", "seq=4"
    )
