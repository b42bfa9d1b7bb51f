"""Write every model of the catalogue with the Python builder, and those of camera size beside it.

python models/build_catalogue.py            write models/*.yaml and models/camera/*.yaml
python models/build_catalogue.py --check    say which files differ from what would be written
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import _classic
import _inception
import _mobile
import _pixels
import _transformer

from spm_opt.formats.model_yaml import network_to_yaml
from spm_opt.graph.builder import NetworkBuilder

HERE = Path(__file__).parent
MODELS = (
    *_classic.MODELS, *_inception.MODELS, *_mobile.MODELS, *_transformer.MODELS, *_pixels.MODELS,
)  # fmt: skip


def catalogue() -> dict[str, str]:
    """File name -> text of every model."""
    files = {}
    for write in MODELS:
        builder = NetworkBuilder(write.__name__)
        write(builder)
        comment = f"{inspect.getdoc(write)}\nWritten by build_catalogue.py; edit that instead."
        # too large to be planned with every other one: named by path, not by name
        folder = "camera/" if write in _pixels.MODELS else ""
        files[f"{folder}{write.__name__}.yaml"] = network_to_yaml(builder, comment)
    return files


def drifted(files: dict[str, str]) -> list[str]:
    """Names of files that are missing, differ, or have no model here."""
    on_disk = {
        path.relative_to(HERE).as_posix(): path.read_text("utf-8") for path in HERE.rglob("*.yaml")
    }
    return sorted(name for name in {*files, *on_disk} if files.get(name) != on_disk.get(name))


def main(arguments: list[str]) -> int:
    """Write, or with ``--check`` compare; 1 if a file differs."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    files = catalogue()
    if arguments:
        for name in drifted(files):
            print(f"models/{name} is not what build_catalogue.py writes", file=sys.stderr)
        return 1 if drifted(files) else 0
    for name, text in files.items():
        (HERE / name).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
