"""The floors of the house, read off the syntax trees: imports only go down, and never round."""

from __future__ import annotations

import ast
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "spm_opt"

#: floor of every room; a package's modules live on its floor
FLOORS = {
    "errors": 0, "units": 0,
    "graph": 1, "seeded": 1, "hardware": 1, "dataflow": 1, "params": 1, "schedule": 1, "stream": 1,
    "mapping": 1, "constraints": 1,
    "formats": 2, "cost": 2, "energy": 2, "allocation": 2, "demands": 2,
    # the records that candidates are turned into stand at the foot of the floor that proposes them
    "problem": 3, "decision": 3,
    "parts": 4, "site": 4, "tiling": 4, "pipeline": 4, "fusion": 4, "boxes": 4,
    **{f"mapping_{room}": 4 for room in (
        "set", "lines", "live", "evaluation", "prices", "counts", "states", "tables", "search")},
    "cpsat": 5, "baselines": 5, "dynamic": 5, "bounds": 5, "late": 5, "peak": 5,
    "constrain": 5,
    "banding": 6, "layout": 6, "timeline": 6, "overlap": 6, "widen": 6, "assemble": 6,
    "commands": 7, "footprint": 7, "planner": 7,
    "verify": 8, "simulate": 8, "emit": 8, "report": 8, "progress": 8, "scene": 8, "trace": 8,
    "inventory": 9, "result": 9, "api": 9, "program": 9, "exploration": 9, "plot": 9,
    "html": 9, "whatif": 9, "explanation": 9,
    "cli": 10,
}  # fmt: skip

#: libraries that only some rooms may know
WALLS = {
    "ortools": ("cpsat", "allocation"),
    "onnx": ("formats.onnx",),
    "onnxruntime": ("program_reference",),
    "yaml": ("formats",),
    "pydantic": ("formats",),
    "typer": ("cli",),
    "rich": ("cli", "progress", "report"),
    "matplotlib": ("plot",),
}

#: the solver's rooms, whose sums the checkers must not share
SOLVER = {
    "parts", "site", "tiling", "pipeline", "fusion", "banding", "problem", "decision", "cpsat",
    "baselines", "constrain", "allocation", "timeline", "overlap", "widen", "planner",
}  # fmt: skip
CHECKERS = {"verify", "simulate"}

Edges = dict[str, set[str]]


def module_name(path: Path, package: Path = PACKAGE) -> str:
    """Dotted name below the package; '' for the package itself."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(tree: ast.AST) -> set[str]:
    """Everything that a module imports, at any depth, with dots: modules and names in them."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def in_room(module: str, rooms: tuple[str, ...] | set[str]) -> bool:
    """Whether `module` is one of `rooms`, inside one, or named with one as prefix."""
    first = module.split(".")[0].split("_")[0]
    return any(
        module == room or module.startswith((room + ".", room + "_")) or first == room
        for room in rooms
    )


def floor(module: str) -> int | None:
    """Floor of a module: that of its room (``cli_solve`` belongs to ``cli``)."""
    first = module.split(".")[0]
    return FLOORS.get(first, FLOORS.get(first.split("_")[0]))


def trees(package: Path) -> dict[Path, ast.Module]:
    """Every module, read."""
    return {
        path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))
    }


def read(package: Path) -> dict[str, set[str]]:
    """Every module with the names it imports."""
    return {module_name(p, package): imported_names(tree) for p, tree in trees(package).items()}


def internal(imports: dict[str, set[str]]) -> Edges:
    """Imports of the package's own modules, each resolved to the longest module name."""
    edges: Edges = {module: set() for module in imports}
    for module, names in imports.items():
        for name in names:
            if name.startswith("spm_opt."):
                target = name.removeprefix("spm_opt.")
                while target and target not in imports:
                    target = target.rpartition(".")[0]
                if target and target != module:
                    edges[module].add(target)
    return edges


def upward(edges: Edges) -> list[str]:
    """Imports that go up, or touch a module that has no floor."""
    wrong = []
    for module, targets in edges.items():
        for target in targets if module else ():
            high, low = floor(module), floor(target)
            if high is None or low is None or low > high:
                wrong.append(f"{module} (floor {high}) imports {target} (floor {low})")
    return sorted(wrong)


def trespasses(imports: dict[str, set[str]]) -> list[str]:
    """Imports of a library by a room that must not know it."""
    return sorted(
        f"{module} imports {name}"
        for module, names in imports.items()
        for name in names
        for library, rooms in WALLS.items()
        if name.split(".")[0] == library and not in_room(module, rooms)
    )


def reachable(edges: Edges, module: str) -> set[str]:
    """Modules that `module` imports, directly or through others."""
    graph = nx.DiGraph([(a, b) for a, targets in edges.items() for b in targets])
    return nx.descendants(graph, module) if module in graph else set()


@pytest.fixture(scope="module")
def modules() -> dict[Path, ast.Module]:
    return trees(PACKAGE)


@pytest.fixture(scope="module")
def imports(modules: dict[Path, ast.Module]) -> dict[str, set[str]]:
    return {module_name(path): imported_names(tree) for path, tree in modules.items()}


@pytest.fixture(scope="module")
def edges(imports: dict[str, set[str]]) -> Edges:
    return internal(imports)


def test_every_room_has_a_floor(imports):
    homeless = [module for module in imports if module and floor(module) is None]
    assert not homeless, f"put these rooms on a floor: {homeless}"


def test_imports_only_go_down(edges):
    assert upward(edges) == []


def test_no_import_cycles(edges):
    # packages re-export their modules, so the package itself is left out (it imports lazily)
    graph = nx.DiGraph([(a, b) for a, targets in edges.items() if a for b in targets])
    assert list(nx.simple_cycles(graph)) == []


def test_libraries_stay_behind_their_walls(imports):
    assert trespasses(imports) == []


def test_checkers_share_nothing_with_the_solver(edges):
    for module in edges:
        if in_room(module, CHECKERS):
            shared = {m for m in reachable(edges, module) if m.split(".")[0] in SOLVER}
            assert not shared, f"{module} reaches {shared}"


def test_library_has_no_assert(modules):
    found = [
        f"{path.name}:{node.lineno}"
        for path, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_every_module_says_what_it_is_for(modules):
    for path, tree in modules.items():
        assert ast.get_docstring(tree), f"{path.name} has no docstring"


# --- the rules themselves can say no --------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path):
    def build(**sources: str) -> dict[str, set[str]]:
        for name, source in sources.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return read(tmp_path)

    return build


def test_an_upward_import_is_seen(house):
    imports = house(units="def f():\n    from spm_opt.cli import main\n", cli="")
    assert upward(internal(imports)) == ["units (floor 0) imports cli (floor 10)"]


def test_a_relative_import_is_refused(house):
    with pytest.raises(AssertionError, match="write imports in full"):
        house(units="from . import cli")


def test_a_trespass_is_seen(house):
    imports = house(
        timeline="import ortools.sat.python.cp_model",
        cpsat__model="from ortools.sat.python import cp_model",
        formats__onnx_reader="import onnx",
        formats__model_yaml="import onnx\nimport yaml",
    )
    assert trespasses(imports) == [
        "formats.model_yaml imports onnx",
        "timeline imports ortools.sat.python.cp_model",
    ]


def test_a_detour_to_the_solver_is_seen(house):
    imports = house(
        verify__core="from spm_opt.emit.helper import f",
        emit__helper="import spm_opt.tiling",
        tiling="",
    )
    assert reachable(internal(imports), "verify.core") == {"emit.helper", "tiling"}
