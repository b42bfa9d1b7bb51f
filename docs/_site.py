"""Pages of the site that are made from the code: a hook of mkdocs (see ``mkdocs.yml``).

The front page and the glossary come from the README; the rules of the CP-SAT model, the command
line and the Python interface from docstrings; the file formats from the JSON Schemas.
"""

from __future__ import annotations

import importlib
import inspect
import json
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer.main

import spm_opt
from spm_opt.cli import app
from spm_opt.cli_help import EXIT_CODES

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links out of ``docs``: to the page made of their target, or none."""
    return relinked(markdown, page.file.src_uri)


def relinked(markdown: str, source: str) -> str:
    """`markdown` of the page `source` with links that lead somewhere on the site."""

    def replaced(match: re.Match[str]) -> str:
        text, target = match.groups()
        if not target.startswith("../"):
            return match.group(0)
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), target))
        if path == "README.md#glossary":
            return f"[{text}](reference/glossary.md)"
        return f"[{text}](index.md)" if path == "README.md" else text

    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", replaced, markdown)


# --- README ---------------------------------------------------------------------------------------


def _readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def index() -> str:
    """The README without its glossary, its links seen from the site."""
    before, rest = _readme().split("## Glossary\n")
    text = before + rest[rest.index("\n## ") + 1 :]

    def replaced(match: re.Match[str]) -> str:
        shown, target = match.groups()
        if target.startswith("docs/"):
            return f"[{shown}]({target.removeprefix('docs/')})"
        return match.group(0) if target.startswith(("http", "#")) else shown

    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", replaced, text)


def glossary() -> str:
    """The README's glossary."""
    rest = _readme().split("## Glossary\n")[1]
    return "# Glossary\n" + rest[: rest.index("\n## ")] + "\n"


# --- the CP-SAT model -----------------------------------------------------------------------------


def rules() -> str:
    """Every rule and cut with its docstring and its code, which is a few lines."""
    from spm_opt.cpsat import constraints, strengthen

    parts = [
        "# The CP-SAT model, rule by rule",
        "Every rule is a function of the model, the problem and the variables; its docstring is "
        "the rule. The variables are those of `spm_opt/cpsat/variables.py`:",
        _attributes("spm_opt.cpsat.variables", "Variables"),
        "## Rules",
        *(_rule(rule) for rule in constraints.RULES),
        "## Cuts",
        "They follow from the rules, change no optimum, and can be left out one by one.",
        *(_rule(cut) for cut in strengthen.CUTS),
    ]
    return "\n\n".join(parts) + "\n"


def _rule(rule: Callable[..., None]) -> str:
    source = inspect.getsource(rule)
    return f"### {rule.__name__}\n\n{inspect.getdoc(rule)}\n\n```python\n{source}```"


def _attributes(module: str, name: str) -> str:
    text = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
    return f"```text\n{text}\n```"


# --- command line and Python ----------------------------------------------------------------------


def command_line() -> str:
    """``--help`` of every command, and the exit codes."""
    group = typer.main.get_command(app)
    parts = ["# Command line", *_help("spm-opt", group)]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        parts += _help(f"spm-opt {name}", command)
    rows = "\n".join(f"| {code} | {text} |" for code, text in EXIT_CODES.items())
    parts.append(f"## Exit codes\n\n| code | means |\n|--:|---|\n{rows}")
    return "\n\n".join(parts) + "\n"


def _help(name: str, command: Any) -> Iterator[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    yield f"## {name}\n\n```text\n{command.get_help(context)}\n```"


def python() -> str:
    """Every public name with its signature and docstring."""
    parts = ["# Python", "Names of `spm_opt`; everything else may change between versions."]
    for name in sorted(spm_opt.__all__, key=str.lower):
        value = getattr(spm_opt, name)
        if callable(value):
            parts.append(f"## {name}\n\n{_documented(name, value)}")
            parts += _members(value)
    return "\n\n".join(parts) + "\n"


def _documented(name: str, value: Any) -> str:
    try:
        head = f"```python\n{name}{inspect.signature(value)}\n```\n\n"
    except ValueError:
        head = ""
    return f"{head}```text\n{inspect.getdoc(value) or ''}\n```"


def _members(value: Any) -> Iterator[str]:
    """Public methods and properties of a class."""
    if not inspect.isclass(value) or issubclass(value, Exception):
        return
    for name, member in vars(value).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            yield f"### {value.__name__}.{name}\n\n{inspect.getdoc(member) or ''}"
        elif inspect.isfunction(member):
            yield f"### {value.__name__}.{name}\n\n{_documented(name, member)}"


# --- file formats ---------------------------------------------------------------------------------


def schemas() -> str:
    """The JSON Schemas as tables, one a record."""
    parts = ["# File schemas", "JSON Schema, draft 2020-12; the files are in `spm_opt/formats`."]
    for name in ("schedule", "commands"):
        text = (ROOT / "spm_opt" / "formats" / f"{name}.schema.json").read_text(encoding="utf-8")
        schema = json.loads(text)
        parts.append(f"## {name}.json\n\n{_record(schema)}")
        for record, fields in schema.get("$defs", {}).items():
            parts.append(f"### {name}.json: {record}\n\n{_record(fields)}")
    return "\n\n".join(parts) + "\n"


def _record(schema: dict[str, Any]) -> str:
    lines = [schema.get("description", "").strip(), ""]
    if "properties" not in schema:
        return "\n".join([*lines, f"`{_type(schema)}`"])
    required = schema.get("required", [])
    lines += ["| field | type | |", "|---|---|---|"]
    for name, field in schema["properties"].items():
        optional = "" if name in required else "optional. "
        told = optional + field.get("description", "")
        lines.append(f"| `{name}` | {_type(field)} | {_cell(told)} |")
    return "\n".join(lines)


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return _cell(field["$ref"].rpartition("/")[2])
    if "const" in field:
        return _cell(f"`{json.dumps(field['const'])}`")
    if "enum" in field:
        return _cell(" or ".join(f"`{value}`" for value in field["enum"]))
    for joint in ("anyOf", "oneOf"):
        if joint in field:
            return " or ".join(_type(option) for option in field[joint])
    if field.get("type") == "array":
        inner = field.get("items", field.get("prefixItems", [{}]))
        inner = inner[0] if isinstance(inner, list) else inner
        return f"list of {_type(inner)}" if isinstance(inner, dict) else "list"
    return str(field.get("type", "any"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


PAGES: dict[str, Callable[[], str]] = {
    "index.md": index,
    "reference/glossary.md": glossary,
    "reference/rules.md": rules,
    "reference/cli.md": command_line,
    "reference/api.md": python,
    "reference/schemas.md": schemas,
}
