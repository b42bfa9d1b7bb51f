"""Models and accelerators by name: a path the user has, or one of those that come with spm_opt.

It finds files and picks the reader by suffix; what stands in a file is the readers' business.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spm_opt.errors import InputError

if TYPE_CHECKING:
    from spm_opt.graph.network import Network

_PACKAGE: Final = Path(__file__).resolve().parent.parent
MODEL_SUFFIXES: Final = (".yaml", ".yml", ".onnx")
HARDWARE_SUFFIXES: Final = (".yaml", ".yml")


def find_model(name_or_path: str | Path) -> Path:
    """File of a model: an existing path, or a name of the catalogue such as ``mobilenet_v2``.

    Raises
    ------
    InputError
        If there is neither; lists the closest names and all known ones.
    """
    return _find(name_or_path, "model", "models", MODEL_SUFFIXES)


def find_hardware(name_or_path: str | Path) -> Path:
    """File of an accelerator: an existing path, or a name such as ``mobile_npu``.

    Raises
    ------
    InputError
        If there is neither; lists the closest names and all known ones.
    """
    return _find(name_or_path, "hardware", "hw", HARDWARE_SUFFIXES)


def list_models() -> tuple[str, ...]:
    """Names of the models that come with spm_opt, sorted."""
    return tuple(sorted(_catalogue("models", MODEL_SUFFIXES)))


def list_hardware() -> tuple[str, ...]:
    """Names of the accelerators that come with spm_opt, sorted."""
    return tuple(sorted(_catalogue("hw", HARDWARE_SUFFIXES)))


def read_model(
    name_or_path: str | Path,
    *,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
) -> Network:
    """Read a model by name or path.

    Parameters
    ----------
    name_or_path : str or Path
    batch : int, optional
        Extent of the batch dimension; the file's own by default.
    dims : mapping of str to int, optional
        Extents of an ONNX file's symbolic dimensions.

    Raises
    ------
    InputError
        If it is not found, its suffix is unknown, or its content is wrong.
    """
    path = find_model(name_or_path)
    suffix = path.suffix.lower()
    # imported here: onnx alone takes longer than printing the help may
    if suffix == ".onnx":
        from spm_opt.formats.onnx_reader import read_onnx

        return read_onnx(path, batch=batch, dims=dims)
    if suffix in (".yaml", ".yml"):
        from spm_opt.formats.model_yaml import read_model_yaml

        if dims:
            raise InputError(
                "only ONNX files have symbolic dimensions", file=str(path), field=next(iter(dims))
            )
        return read_model_yaml(path, batch=batch)
    raise InputError(
        "unknown kind of model file", file=str(path), found=path.suffix, allowed=MODEL_SUFFIXES
    )


def _find(name_or_path: str | Path, what: str, folder: str, suffixes: tuple[str, ...]) -> Path:
    name = str(name_or_path)
    known = _catalogue(folder, suffixes)
    path = Path(name)
    if not name:
        raise InputError(f"the name of the {what} is empty")
    if _is_file(path):
        return path
    if name in known:
        return known[name]
    close = difflib.get_close_matches(path.stem, known, n=3)
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    if _looks_like_path(name, suffixes):
        raise InputError(f"is no file{hint}" if _exists(path) else f"no such file{hint}", file=name)
    raise InputError(
        f"no {what} file and no {what} of this name in the catalogue{hint}",
        found=name,
        allowed=("a path", *sorted(known)),
    )


def _looks_like_path(name: str, suffixes: tuple[str, ...]) -> bool:
    return "/" in name or "\\" in name or name.lower().endswith(suffixes) or name in (".", "..")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _catalogue(folder: str, suffixes: tuple[str, ...]) -> dict[str, Path]:
    # the wheel carries the catalogue inside the package; a checkout has it next to the package,
    # where an installed package would only find strangers' folders
    roots = [_PACKAGE / "catalogue" / folder]
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        roots.append(_PACKAGE.parent / folder)
    found: dict[str, Path] = {}
    for root in roots:
        if root.is_dir():
            for path in sorted(root.iterdir()):
                if path.suffix in suffixes:
                    found.setdefault(path.stem, path)
    return found
