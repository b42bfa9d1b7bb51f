"""The site builds without a warning, its generated pages are complete, its examples run."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import spm_opt
from spm_opt import cli
from spm_opt.cpsat.constraints import RULES
from spm_opt.cpsat.strengthen import CUTS

ROOT = Path(__file__).resolve().parent.parent


def load_site():
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SITE = load_site()


def examples(name: str) -> list[tuple[str, str]]:
    """Fenced blocks that are run, in order, with their language."""
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    return re.findall(r"^```(console|python)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", ["tutorial", "howto"])
def test_the_examples_of_a_page_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for language, block in examples(name):
        if language == "python":
            exec(compile(block, f"{name}.md", "exec"), namespace)
            continue
        for line in block.splitlines():
            prompt, program, *words = shlex.split(line)
            assert (prompt, program) == ("$", "spm-opt")
            assert cli.main(words) == 0, line
            assert capsys.readouterr()
    if name == "tutorial":
        assert {"block.yaml", "plan", "c"} <= {path.name for path in tmp_path.iterdir()}


def test_every_rule_stands_on_the_page_of_rules():
    page = SITE.rules()
    for rule in (*RULES, *CUTS):
        assert f"### {rule.__name__}\n\n{inspect.getdoc(rule)}" in page


def test_every_command_and_option_stands_on_the_page_of_commands():
    page = SITE.command_line()
    for name, command in typer.main.get_command(cli.app).commands.items():
        section = page.split(f"## spm-opt {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            assert all(option in section for option in parameter.opts if option.startswith("--"))


def test_every_public_name_stands_on_the_page_of_python():
    page = SITE.python()
    for name in spm_opt.__all__:
        assert name == "__version__" or f"\n## {name}\n" in page
    assert "### Result.explain" in page


@pytest.mark.parametrize("name", ["schedule", "commands"])
def test_every_field_stands_on_the_page_of_schemas(name):
    page = SITE.schemas()
    schema = json.loads((ROOT / "spm_opt" / "formats" / f"{name}.schema.json").read_text())
    for record, fields in schema["$defs"].items():
        section = page.split(f"### {name}.json: {record}\n")[1].split("\n##")[0]
        for field in fields.get("properties", {}):
            assert f"| `{field}` |" in section


def test_links_out_of_the_documents_stay_on_the_site():
    text = "[a](../README.md#glossary) [b](../spm_opt/late.py) [c](model.md) [d](../README.md)"
    assert SITE.relinked(text, "model.md") == (
        "[a](reference/glossary.md) b [c](model.md) [d](index.md)"
    )


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("material", reason="the extra docs is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for page in (*SITE.PAGES, "tutorial.md", "comparison.md"):
        stem = page.removesuffix(".md")
        built = "index.html" if stem == "index" else f"{stem}/index.html"
        assert (tmp_path / "site" / built).stat().st_size > 1000
