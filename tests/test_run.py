"""``spm-opt emit`` and ``run``: files, figures, exit codes, and networks with their own weights."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from emitted import COMPILER, drawn_inputs
from values_models import Model
from values_oracle import run as computed

import spm_opt
from spm_opt.cli import main
from spm_opt.errors import InputError
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.program import Run
from spm_opt.schedule import Schedule
from spm_opt.seeded import draw_values

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc, gcc or clang)")
needs_runtime = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="no onnxruntime")
SHARED = Path(__file__).parents[2] / "shared" / "onnx"


def planned(model: object, **options: object) -> Schedule:
    settings = {"orders": 1, "workers": 1, "time_limit": 20.0, "deterministic_limit": 5.0}
    return spm_opt.solve(model, "mobile_npu", **{**settings, **options}).schedule  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    b = NetworkBuilder("small")
    x, z = b.input("x", (1, 2, 8, 6)), b.input("z", (1, 4, 8, 6))
    b.output(b.add(b.conv(x, 4, 3, padding=1), z))
    return planned(b, overrides={"spm.capacity": "640 B", "spm.alignment": "16 B"})


@pytest.fixture(scope="module")
def program(schedule, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("program") / "c"
    spm_opt.emit_c(schedule, folder, seed=3)
    return folder


def saved(folder: Path, *arrays: np.ndarray) -> list[str]:
    options = []
    for i, array in enumerate(arrays):
        np.save(folder / f"{i}.npy", array)
        options += ["--input", str(folder / f"{i}.npy")]
    return options


# --- emit --------------------------------------------------------------------------------------


def test_emit_writes_every_file(program):
    names = {path.name for path in program.iterdir()}
    expected = {"schedule.c", "layers.h", "dma.h", "dma.c", "main.c", "Makefile", "PORTING.md",
                "weights.bin", "manifest.json", "spm_kernels.h"}  # fmt: skip
    assert expected <= names


def test_emission_repeats_and_seeds_differ(schedule, program, tmp_path):
    spm_opt.emit_c(schedule, tmp_path / "same", seed=3)
    spm_opt.emit_c(schedule, tmp_path / "other", seed=4)
    for path in (tmp_path / "same").iterdir():
        assert path.read_bytes() == (program / path.name).read_bytes()
    weights = [(f / "weights.bin").read_bytes() for f in (program, tmp_path / "other")]
    assert weights[0] != weights[1]


def test_emit_of_a_broken_schedule_writes_nothing(schedule, tmp_path, capsys):
    from spm_opt.formats.schedule_json import schedule_to_json

    text = schedule_to_json(schedule).replace('"dram_bytes": ', '"dram_bytes": 1', 1)
    (tmp_path / "schedule.json").write_text(text)
    assert main(["emit", str(tmp_path), "-o", str(tmp_path / "c")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "dram_bytes" in said.err
    assert not (tmp_path / "c").exists()


def test_emit_without_a_schedule(tmp_path, capsys):
    assert main(["emit", str(tmp_path / "none"), "-o", str(tmp_path / "c")]) == 1
    assert "cannot read the schedule" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_weights_of_another_network_are_refused(schedule, tmp_path, capsys):
    model = Model(1, 3, 8, 8)
    path = model.save(tmp_path, model.node("Relu", "x"))
    with pytest.raises(InputError, match=path.name):
        spm_opt.emit_c(schedule, tmp_path / "c", weights=path)
    assert not (tmp_path / "c").exists()
    with pytest.raises(InputError, match=r"none\.onnx"):
        spm_opt.emit_c(schedule, tmp_path / "c", weights=tmp_path / "none.onnx")


# --- run ---------------------------------------------------------------------------------------


@needs_compiler
def test_run_computes_and_counts(schedule, program):
    inputs = drawn_inputs(schedule.network, 5)
    done = spm_opt.run_c(program, inputs=list(inputs.values()))
    expected = computed(schedule.network, draw_values(schedule.network, 3), inputs)
    for name, array in done.outputs.items():
        np.testing.assert_array_equal(array, expected[name])
    assert done.bytes_loaded + done.bytes_stored == schedule.claims.dram_bytes
    assert done.macs == schedule.network.macs
    assert done.transfers == len(schedule.transfers)


@needs_compiler
def test_arrays_of_a_batch_are_plain(tmp_path):
    """Inputs and outputs are (images, channels, rows, columns), however rows lie in DRAM."""
    b = NetworkBuilder("batch")
    x = b.input("x", (3, 2, 8, 6))
    b.output(b.conv(x, 4, 3, padding=1), b.max_pool(x, 2))
    schedule = planned(b, overrides={"spm.capacity": "512 B", "spm.alignment": "16 B"})
    assert schedule.network.tensors["x"].images == 3
    assert any(step.tiles > 3 for step in schedule.steps)
    spm_opt.emit_c(schedule, tmp_path, seed=3)
    inputs = drawn_inputs(schedule.network, 5)
    done = spm_opt.run_c(tmp_path, inputs=list(inputs.values()))
    expected = computed(schedule.network, draw_values(schedule.network, 3), inputs)
    for name, array in done.outputs.items():
        np.testing.assert_array_equal(array, expected[name])


@needs_compiler
def test_run_prints_one_object(schedule, program, tmp_path, capsys):
    inputs = drawn_inputs(schedule.network, 5)
    command = ["run", str(program), "--json", "--output", str(tmp_path / "out")]
    assert main([*command, *saved(tmp_path, *inputs.values())]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes_loaded"] + found["bytes_stored"] == found["bytes_promised"]
    assert found["macs"] == schedule.network.macs
    assert found["seconds"] > 0
    (output,) = found["outputs"]
    array = np.load(output["file"])
    assert (output["shape"], output["dtype"]) == ([1, 4, 8, 6], "int8")
    expected = computed(schedule.network, draw_values(schedule.network, 3), inputs)
    np.testing.assert_array_equal(array, expected[output["name"]])
    assert main(["run", str(program)]) == 0
    assert "as promised" in capsys.readouterr().out


def test_no_compiler(program, monkeypatch, tmp_path, capsys):
    before = sorted(path.name for path in program.iterdir())
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["run", str(program)]) == 1
    assert "cc, gcc, clang" in capsys.readouterr().err
    monkeypatch.setenv("CC", "acc --fast")
    assert main(["run", str(program)]) == 1
    said = capsys.readouterr()
    assert "'acc'" in said.err
    assert said.out == ""
    assert sorted(path.name for path in program.iterdir()) == before


@needs_compiler
def test_the_compiler_is_the_environments(program, monkeypatch, capsys):
    monkeypatch.setenv("CC", f"{COMPILER} -O0")
    assert main(["run", str(program), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compiler"] == COMPILER


@needs_compiler
def test_any_number_of_inputs(tmp_path):
    b = NetworkBuilder("many")
    total, *others = [b.input(f"x{i}", (1, 1, 1, 8)) for i in range(70)]
    for other in others:
        total = b.add(total, other)
    b.output(total)
    spm_opt.emit_c(planned(b, strategy="greedy"), tmp_path)
    assert spm_opt.run_c(tmp_path).outputs


X, Z = np.zeros((1, 2, 8, 6), np.int8), np.zeros((1, 4, 8, 6), np.int8)


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ((X[:, :, :4], Z), "x: this input has another shape; found (1, 2, 4, 6)"),
        ((X, Z.astype(np.float32)), "z: this input has another element type; found 'float32'"),
        ((X,), "z: this input is missing"),
        ((X, Z, Z), "too many inputs"),
    ],
)
def test_wrong_inputs_are_named(program, tmp_path, capsys, arrays, named):
    assert main(["run", str(program), *saved(tmp_path, *arrays)]) == 1
    said = capsys.readouterr()
    assert named in said.err
    assert said.out == ""


def test_files_that_are_no_arrays_or_programs(program, tmp_path, capsys):
    (tmp_path / "x.npy").write_text("no array")
    np.savez(tmp_path / "many.npz", X)
    for wrong in map(str, (tmp_path / "x.npy", tmp_path / "none.npy", tmp_path / "many.npz")):
        assert main(["run", str(program), "--input", wrong, "--input", wrong]) == 1
        assert wrong in capsys.readouterr().err
    assert main(["run", str(tmp_path)]) == 1
    assert "cannot read the program" in capsys.readouterr().err
    (tmp_path / "manifest.json").write_text('{"format": "spm_opt.program", "version": 9}')
    assert main(["run", str(tmp_path)]) == 1
    assert "another version" in capsys.readouterr().err


@needs_compiler
def test_a_source_that_does_not_compile(schedule, tmp_path, capsys):
    spm_opt.emit_c(schedule, tmp_path)
    (tmp_path / "layers.h").write_text("#error spoilt\n")
    assert main(["run", str(tmp_path)]) == 1
    assert "spoilt" in capsys.readouterr().err
    (tmp_path / "dma.c").unlink()
    assert main(["run", str(tmp_path)]) == 1
    assert "dma.c: a source is missing" in capsys.readouterr().err


@needs_compiler
def test_compilers_that_do_not_compile(program, monkeypatch, capsys):
    for variable, value, said in (
        ("CC", "false", "the compiler (false) failed with 1"),
        ("CC", "true", "CC: the compiler wrote no program; found 'true'"),
        ("CC", "cc '", "CC: cannot be split into words"),
        ("CFLAGS", "'", "CFLAGS: cannot be split into words"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(variable, value)
            assert main(["run", str(program)]) == 1, value
            assert said in capsys.readouterr().err


def test_seeds_below_zero(schedule, program, tmp_path, capsys):
    from spm_opt.formats.schedule_json import schedule_to_json

    (tmp_path / "schedule.json").write_text(schedule_to_json(schedule))
    for command in (["run", str(program)], ["emit", str(tmp_path), "-o", str(tmp_path / "c")]):
        assert main([*command, "--seed", "-1"]) == 1
        assert "seed: must not be negative; found -1" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_an_array_larger_than_any_memory(program, tmp_path, capsys):
    np.save(tmp_path / "x.npy", X)
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content.replace(b"(1, 2, 8", b"(%d, 2, 8" % 10**15))
    assert main(["run", str(program), *["--input", str(tmp_path / "x.npy")] * 2]) == 1
    assert "x.npy: cannot read the input: it is no .npy file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("inputs", 0, "shape"), [-1, 2, 8, 6], "inputs[0].shape: extents must be positive"),
        (("inputs", 0, "dtype"), "float99", "inputs[0].dtype: no element type of this name"),
        (("inputs", 1, "file"), "../x", "inputs[1].file: must be the name of a file"),
        (("outputs", 0, "shape"), [1, 1], "outputs[0].shape: has other elements than dram_layout"),
        (("sources", 0), "../main.c", "sources[0]: must be the name of a file"),
    ],
)
def test_manifests_edited_by_hand(program, tmp_path, capsys, where, value, said):
    _edit(program, tmp_path, where, value)
    assert main(["run", str(tmp_path)]) == 1
    assert said in capsys.readouterr().err


@needs_compiler
def test_an_output_that_the_program_does_not_write(program, tmp_path, capsys):
    shutil.copytree(program, tmp_path, dirs_exist_ok=True)
    _edit(program, tmp_path, ("outputs", 0, "file"), "none.bin")
    assert main(["run", str(tmp_path)]) == 1
    assert "the program writes no such output" in capsys.readouterr().err


def _edit(program: Path, folder: Path, where: tuple[str | int, ...], value: object) -> None:
    document = found = json.loads((program / "manifest.json").read_text())
    for key in where[:-1]:
        found = found[key]
    found[where[-1]] = value
    (folder / "manifest.json").write_text(json.dumps(document))


# --- networks with weights of their own --------------------------------------------------------


def with_weights(path: Path, folder: Path, **options: object) -> Run:
    spm_opt.emit_c(planned(str(path), **options), folder, weights=path)
    return spm_opt.run_c(folder, reference=path)


def small_model(folder: Path, batch: int | str = 1) -> Path:
    m = Model(batch, 3, 9, 8)
    y = m.batch_norm(m.node("Conv", "x", m.weight(6, 3, 3, 3), m.weight(6), pads=[1, 1, 1, 1]), 6)
    y = m.node("Relu", y)
    z = m.node("Conv", y, m.weight(6, 1, 3, 3), group=6, pads=[1, 1, 1, 1])
    y = m.node("MaxPool", m.node("Add", y, z), kernel_shape=[2, 2], strides=[2, 2])
    y = m.node("Flatten", m.node("Concat", y, m.node("Sigmoid", y), axis=1))
    return m.save(folder, m.node("Softmax", m.node("Gemm", y, m.weight(7, 192), transB=1)))


def quantised_model(folder: Path, batch: int | str = 1) -> Path:
    m = Model(batch, 3, 8, 8, opset=19)
    y = m.through("x", 0.02, 3)
    y = m.node("Conv", y, m.stored(m.integers(4, 3, 3, 3), 0.01), pads=[1, 1, 1, 1])
    y = m.through(m.node("Relu", y), 0.03, -128)
    z = m.node("Conv", y, m.stored(m.integers(4, 4, 1, 1), 0.01))
    y = m.through(m.node("Add", m.through(z, 0.05, 4), y), 0.04, -2)
    return m.save(folder, y)


def lookup_model(folder: Path, batch: int | str = 1) -> Path:
    """Rows of a table that is larger than what is looked up of it: it stays in DRAM."""
    m = Model(batch, 6, elem=7)
    y = m.node("Gather", m.weight(300, 8), "x", axis=0)
    y = m.node("MatMul", y, m.weight(8, 5))
    best = m.node("ArgMax", y, axis=2, keepdims=0)
    return m.save(folder, m.node("LayerNormalization", y, m.weight(5), m.weight(5), axis=-1), best)


def slopes_model(folder: Path, batch: int | str = 1) -> Path:
    """Slopes that no producer takes along, and a norm of single elements."""
    m = Model(batch, 4, 4, 4)
    y = m.node("PRelu", m.node("Conv", "x", m.weight(4, 4, 1, 1)), m.weight(4))
    y = m.node("PRelu", m.node("MatMul", y, y), m.weight(4, 1, 1))
    y = m.node("Reshape", m.node("Add", y, "x"), m.const([0, 4, 16], np.int64))
    y = m.node("PRelu", y, m.weight(16))
    return m.save(folder, y, m.node("LpPool", "x", kernel_shape=[1, 1]))


@needs_compiler
@needs_runtime
@pytest.mark.parametrize(
    "model", [small_model, quantised_model, lookup_model, slopes_model], ids=lambda f: f.__name__
)
def test_a_model_computes_what_onnxruntime_does(tmp_path, model):
    path = model(tmp_path)
    done = with_weights(path, tmp_path / "c", overrides={"spm.capacity": "4 KiB"})
    assert done.difference is not None
    assert done.difference.within, done.difference
    assert all(np.unique(array).size > 2 for array in done.outputs.values())
    assert done.bytes_loaded + done.bytes_stored == done.manifest.promised_dram_bytes


def joined_images_model(folder: Path, batch: int | str = 1) -> Path:
    """Images of a batch beside others: a whole of more images than its pieces."""
    m = Model(batch, 4, 5, 6)
    y = m.node("Concat", "x", "x", m.weight(2, 4, 5, 6), axis=0)
    scales = m.const([1, 1, 1.5, 1])
    y = m.node("Resize", y, "", scales, mode="nearest")
    return m.save(folder, y, m.node("Gemm", m.node("Flatten", "x"), m.weight(9, 120), transB=1))


@needs_compiler
@needs_runtime
def test_images_are_joined(tmp_path):
    path = joined_images_model(tmp_path, 2)
    done = with_weights(path, tmp_path / "c", overrides={"spm.capacity": "4 KiB"})
    assert done.difference is not None
    assert done.difference.within, done.difference


def attention_model(folder: Path, batch: int | str = 1) -> Path:
    m = Model(batch, 10, 16)
    heads = [
        m.node("Transpose", m.node("Reshape", m.node("MatMul", "x", m.weight(16, 16)),
                                   m.const([0, 0, 2, 8], np.int64)), perm=perm)
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    ]  # fmt: skip
    weights = m.node("Softmax", m.node("MatMul", heads[0], heads[1]), axis=-1)
    mixed = m.node("Transpose", m.node("MatMul", weights, heads[2]), perm=[0, 2, 1, 3])
    y = m.node("Add", m.node("Reshape", mixed, m.const([0, 0, 16], np.int64)), "x")
    y = m.node("LayerNormalization", y, m.weight(16), m.weight(16), axis=-1)
    return m.save(folder, m.node("ReduceMean", y, axes=[1], keepdims=0))


@needs_compiler
@needs_runtime
@pytest.mark.parametrize("batch", [3, "N"])
@pytest.mark.parametrize(
    "model", [small_model, quantised_model, lookup_model, attention_model],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_a_batch_computes_what_onnxruntime_does(tmp_path, model, batch):
    path = model(tmp_path, batch)
    options = {} if batch == 3 else {"batch": 3}
    done = with_weights(path, tmp_path / "c", overrides={"spm.capacity": "4 KiB"}, **options)
    assert done.difference is not None
    # a sum of two rounded maps, rounded again, may be two quanta off
    quanta = 2 if model is quantised_model else 1
    assert done.difference.largest <= quanta * done.difference.tolerance, done.difference
    assert all(array.shape[0] == 3 for array in done.outputs.values())
    assert done.bytes_loaded + done.bytes_stored == done.manifest.promised_dram_bytes


@needs_compiler
@needs_runtime
def test_a_difference_is_seen(tmp_path, capsys):
    path = small_model(tmp_path)
    spm_opt.emit_c(planned(str(path)), tmp_path / "c")
    command = ["run", str(tmp_path / "c"), "--reference", str(path)]
    assert main(command) == 5
    assert "NOT within" in capsys.readouterr().out
    other = Model(1, 3, 9, 8)
    command[-1] = str(other.save(tmp_path / "c", other.node("Relu", "x")))
    assert main(command) == 1
    assert "the program has no such output" in capsys.readouterr().err


@needs_compiler
@needs_runtime
def test_a_difference_that_is_no_number(tmp_path, capsys):
    """Infinity where the reference has a number."""
    model = Model(1, 1, 1, 4)
    path = model.save(tmp_path, model.node("Log", "x"))
    spm_opt.emit_c(planned(str(path)), tmp_path / "c", weights=path)
    other = Model(1, 1, 1, 4)
    other.nodes = [onnx.helper.make_node("Abs", ["x"], ["Log_0_0"])]
    reference = other.save(tmp_path / "c", "Log_0_0")
    command = ["run", str(tmp_path / "c"), "--reference", str(reference)]
    command += saved(tmp_path, np.zeros((1, 1, 1, 4), np.float32))
    assert main([*command, "--json"]) == 5
    found = json.loads(capsys.readouterr().out)["reference"]
    assert (found["largest_difference"], found["within_tolerance"]) == (None, False)
    assert main(command) == 5
    assert "differs by what is no number, NOT within" in capsys.readouterr().out


def _shared(name: str, tmp_path: Path) -> None:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is absent")
    done = with_weights(path, tmp_path, overrides={"spm.capacity": "2 MiB"})
    assert done.difference is not None
    assert done.difference.within, done.difference
    assert done.bytes_loaded + done.bytes_stored == done.manifest.promised_dram_bytes


@needs_compiler
@needs_runtime
@pytest.mark.parametrize("name", ["ae_toycar.onnx", "dscnn_kws.onnx"])
def test_shared_models(tmp_path, name):
    _shared(name, tmp_path)


@pytest.mark.heavy
@needs_compiler
@needs_runtime
@pytest.mark.parametrize("name", ["mobilenetv2_100.onnx", "squeezenet1_1.onnx", "unet_256.onnx"])
def test_large_shared_models(tmp_path, monkeypatch, name):
    monkeypatch.setenv("CFLAGS", "-O3")
    _shared(name, tmp_path)
