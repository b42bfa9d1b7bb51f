"""What all tests share: golden texts, the compiled kernels, how workers share the tests.

Draws of Hypothesis are the same in every run.

Golden texts are compared with files in tests/data, and written anew with ``--update-golden``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

DATA = Path(__file__).parent / "data"
#: small programs take longer to build than to run
os.environ.setdefault("CFLAGS", "-O0")
# the same draws in every run; `--hypothesis-profile default` draws others
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write golden texts instead of comparing"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the golden file of this name."""

    def compare(name: str, text: str) -> None:
        file = DATA / name
        if request.config.getoption("--update-golden"):
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8"), f"--update-golden rewrites {file.name}"

    return compare


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Whichever worker is done first takes over tests of the others, who keep whole modules."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels and the DMA engine, compiled for `emitted.Batch`."""
    from emitted import compiled_fixed  # most tests compile nothing

    return compiled_fixed(tmp_path_factory)
