"""What the README and the documents promise is what the code does."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main
from test_api import KEYS

import spm_opt
from spm_opt import cli, cli_alloc, cli_run
from spm_opt.api import load_network
from spm_opt.cli_help import EXIT_CODES
from spm_opt.cpsat.constraints import RULES
from spm_opt.cpsat.strengthen import CUTS
from spm_opt.formats.tables import ALLOCATION_COLUMNS, LAYER_COLUMNS
from spm_opt.fusion_borders import MAX_FREE_MAPS
from spm_opt.fusion_groups import MAX_GROUP_LAYERS
from spm_opt.graph.fields import REQUIRED
from spm_opt.graph.recipes import RECIPES, SPLIT_FIELDS
from spm_opt.params import STRATEGIES
from spm_opt.parts import MAX_SLICES, SLICE_BYTES
from spm_opt.planner import STATES
from spm_opt.result import FILES

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODELS = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
MODEL = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
FORMATS = (ROOT / "docs" / "file_formats.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


COMMANDS = [
    line for block in blocks(README, "sh") for line in block.splitlines() if "spm-opt" in line
]


def test_the_test_command_is_one_line_that_the_ci_finds():
    (command,) = re.findall(r"<!-- test command -->\n```sh\n(.*)\n```\n", README)
    assert command == "python -m pytest -n 2"
    script = ROOT / ".ci" / "run"
    assert "README.md" in script.read_text()
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_readme_exists_with_its_options(line):
    program, name, *rest = shlex.split(line)
    assert program == "spm-opt"
    command = typer.main.get_command(cli.app).commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known


def test_the_readme_shows_every_command():
    shown = set(re.findall(r"^\| `spm-opt (\w+)", README, flags=re.MULTILINE))
    assert shown == set(typer.main.get_command(cli.app).commands)


def test_the_readme_lists_the_exit_codes():
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)}
    assert codes == set(EXIT_CODES)
    own = {cli.EXIT_OK, cli.EXIT_ERROR, cli.EXIT_VIOLATIONS, cli.EXIT_ABORTED}
    assert codes == own | set(cli_alloc.EXIT_CODES.values()) | {cli_run.EXIT_DIFFERENT}


def test_the_readme_lists_the_strategies_and_the_files():
    table = README.split("| strategy |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)) == set(STRATEGIES)
    for name in FILES:
        assert f"`{name}`" in README


@pytest.mark.parametrize(
    "term",
    ["layer", "feature map", "weights", "row", "stripe", "tile", "halo", "group", "pin", "spill",
     "SPM", "residency", "offset", "transfer"],
)  # fmt: skip
def test_the_glossary_has_every_term(term):
    glossary = README.split("## Glossary")[1]
    bold = {word for words in re.findall(r"\*\*(.+?)\*\*", glossary) for word in words.split(", ")}
    assert term in bold


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def explained(section: str) -> list[str]:
    """First column of the table of a section of the formats' document."""
    text = FORMATS.split(f"## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)`", text, flags=re.MULTILINE)


def test_the_documents_explain_every_key_of_a_solve():
    assert set(explained("The solve object")) == KEYS


def test_the_documents_explain_every_column_in_order():
    assert tuple(explained("allocation.csv")) == ALLOCATION_COLUMNS
    assert tuple(explained("layers.csv")) == LAYER_COLUMNS


def rule_line(rule) -> str:
    """A rule of the joint model as the document lists it: its name, and its own sentence."""
    sentence = " ".join(inspect.getdoc(rule).split("\n\n")[0].split())
    return f"- `{rule.__name__}`: {sentence}"


@pytest.mark.parametrize(("name", "rules"), [("rules", RULES), ("cuts", CUTS)])
def test_the_model_document_states_every_rule_in_its_own_words(name, rules):
    told = MODEL.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0].strip()
    assert told.splitlines() == [rule_line(rule) for rule in rules]


def test_the_model_document_states_the_limits_of_the_code():
    flat = " ".join(MODEL.split())
    for text in (
        f"at most {MAX_GROUP_LAYERS} whole layers",
        f"more than {MAX_FREE_MAPS} maps cross",
        f"(or {SLICE_BYTES // 1024} KiB) are cut into slices",
        f"more than {MAX_SLICES} slices",
        f"at first to {STATES[0]} a boundary, then to {STATES[1]}, then to {STATES[2]:,};",
    ):
        assert text in flat


def field_text(field) -> str:
    """A field as the documents spell it: alone if required, ``?`` if it may be left out."""
    if field.default is REQUIRED:
        return f"`{field.name}`"
    plain = {True: "true", False: "false"} if isinstance(field.default, bool) else {}
    default = plain.get(field.default, field.default)
    return f"`{field.name}`?" if default is None else f"`{field.name}` = {default}"


def test_the_documents_explain_every_operator_of_a_model_file():
    rows = re.findall(r"^\| `(.+?)` \| (.*) \|$", MODELS, flags=re.MULTILINE)
    told = {op: fields for ops, fields in rows for op in ops.split("`, `")}
    wanted = {op: ", ".join(map(field_text, recipe.fields)) for op, recipe in RECIPES.items()}
    wanted["split"] = ", ".join(map(field_text, SPLIT_FIELDS))
    assert told == wanted


def test_the_example_of_a_model_file_is_one(tmp_path):
    (example,) = blocks(MODELS, "yaml")
    (tmp_path / "tiny.yaml").write_text(example)
    assert [layer.name for layer in load_network(tmp_path / "tiny.yaml", batch=2).layers]


@pytest.mark.parametrize("source", blocks(README, "python"))
def test_the_worked_example_runs(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(source, "README.md", "exec"), {})
    assert "('expand', 'depthwise'" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "plan_block").iterdir()) == sorted(FILES)


def test_the_readme_names_only_public_names():
    for source in blocks(README, "python"):
        for name in re.findall(r"spm_opt\.(\w+)", source):
            assert name in spm_opt.__all__


@pytest.mark.heavy
@pytest.mark.parametrize("shown", blocks(README, "text"), ids=lambda text: text.split()[-1])
def test_the_readme_shows_what_the_commands_print(shown, capsys, monkeypatch):
    if "built with" in shown:
        pytest.skip("test_the_readme_shows_what_a_run_prints has it")
    monkeypatch.setenv("COLUMNS", "110")
    wanted = "compare" if "strategy     status" in shown else "solve"
    line = next(line for line in COMMANDS if line.split()[1:3] == [wanted, "mobilenet_v2"])
    words = [word for word in shlex.split(line)[1:] if word not in ("-o", "plan")]
    assert cli.main(words) == 0

    def lines(text: str) -> list[str]:
        found = [line.rstrip() for line in text.splitlines()]
        return [line for line in found if line and "solved in" not in line]

    assert lines(capsys.readouterr().out) == lines(shown)


@pytest.mark.heavy
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_readme_shows_what_a_run_prints(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (shown,) = (text for text in blocks(README, "text") if "built with" in text)
    for words in (["solve", "mobilenet_v2", "-o", "plan"], ["emit", "plan", "-o", "c"]):
        assert cli.main(words) == 0
    capsys.readouterr()
    assert cli.main(["run", "c"]) == 0
    printed = re.sub(r"seconds .*", "", capsys.readouterr().out)
    assert printed.split() == re.sub(r"seconds .*", "", shown).split()
