"""Finding models and accelerators by name or path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spm_opt.errors import InputError
from spm_opt.formats.catalogue import (
    find_hardware,
    find_model,
    list_hardware,
    list_models,
    read_model,
)

REPO = Path(__file__).resolve().parent.parent


def test_names_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list_hardware():
        assert find_hardware(name).is_file()
        assert find_hardware(name).is_absolute()
    for name in list_models():
        assert find_model(name).is_file()
    assert "mobile_npu" in list_hardware()
    assert list_hardware() == tuple(sorted(list_hardware()))


def test_an_existing_file_comes_before_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mobile_npu").write_text("name: mine\n", encoding="utf-8")
    assert find_hardware("mobile_npu") == Path("mobile_npu")
    assert find_hardware(tmp_path / "mobile_npu") == tmp_path / "mobile_npu"


def test_a_directory_of_that_name_does_not_hide_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mobile_npu").mkdir()
    assert find_hardware("mobile_npu").name == "mobile_npu.yaml"


@pytest.mark.parametrize("wrong", ["mobile_npx", "mobilenpu", "Mobile_NPU"])
def test_an_unknown_name_lists_the_close_ones_and_all(wrong: str) -> None:
    with pytest.raises(InputError) as caught:
        find_hardware(wrong)
    text = str(caught.value)
    if wrong != "Mobile_NPU":
        assert "(did you mean mobile_npu?)" in text
    assert f"found {wrong!r}; allowed: a path, {', '.join(list_hardware())}" in text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("nets/none.onnx", "nets/none.onnx: no such file"),
        ("none.yaml", "none.yaml: no such file"),
        ("..", "..: is no file"),
        ("a\0b/c", "a\0b/c: no such file"),
        ("", "the name of the model is empty"),
    ],
)
def test_a_wrong_path(wrong: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        find_model(wrong)
    assert str(caught.value) == message


def test_a_mistyped_path_gets_a_hint() -> None:
    with pytest.raises(InputError) as caught:
        find_hardware("somewhere/mobile_npu.yaml")
    assert str(caught.value) == (
        "somewhere/mobile_npu.yaml: no such file (did you mean mobile_npu?)"
    )


def test_model_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"TFL3")
    with pytest.raises(InputError) as caught:
        read_model(path)
    assert str(caught.value) == (
        f"{path}: unknown kind of model file; found '.tflite'; allowed: .yaml, .yml, .onnx"
    )


def test_onnx_files_go_to_the_onnx_reader(tmp_path: Path) -> None:
    path = tmp_path / "net.ONNX"
    path.write_bytes(b"garbage")
    with pytest.raises(InputError, match="ONNX"):
        read_model(path)


def test_yaml_files_go_to_the_yaml_reader() -> None:
    if not list_models():
        pytest.skip("the checkout has no models/ yet")
    name = "mobilenet_v2"
    network = read_model(name)
    assert network.macs == pytest.approx(0.301e9, rel=0.01)
    assert read_model(find_model(name), batch=2).macs == 2 * network.macs


def test_the_wheel_carries_the_catalogue() -> None:
    text = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    section = text.split("[tool.hatch.build.targets.wheel.force-include]")[1].split("\n[")[0]
    lines = [line.strip() for line in section.splitlines() if line.strip()]
    assert lines == ['"models" = "spm_opt/catalogue/models"', '"hw" = "spm_opt/catalogue/hw"']


def test_an_installed_package_finds_what_the_wheel_put_inside(tmp_path: Path) -> None:
    # laid out as pip unpacks the wheel, next to a folder of strangers
    site, package = tmp_path / "site", tmp_path / "site" / "spm_opt"
    shutil.copytree(REPO / "spm_opt", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPO / "hw", package / "catalogue" / "hw")
    (site / "hw").mkdir()
    (site / "hw" / "stranger.yaml").write_text("x: 1\n", encoding="utf-8")
    code = (
        "from spm_opt.formats.catalogue import *\n"
        "print(*list_hardware())\nprint(find_hardware('mobile_npu'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    names, path = done.stdout.splitlines()
    assert names == " ".join(sorted(p.stem for p in (REPO / "hw").glob("*.yaml")))
    assert Path(path) == package / "catalogue" / "hw" / "mobile_npu.yaml"
