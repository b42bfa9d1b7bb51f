"""What ends every ``--help``: examples that can be copied, and the exit codes of the command."""

from __future__ import annotations

from typing import Annotated, Final

import typer

#: every exit code, and what it means
EXIT_CODES: Final = {
    0: "done",
    1: "an input, an option or the solve failed (one message on standard error)",
    2: "`check` found violations",
    3: "`alloc` proved that no placement exists",
    4: "`alloc` found no placement within the limit",
    5: "`run`: the outputs differ from the reference by more than the tolerance",
    130: "aborted by a second Ctrl-C",
}
_CTRL_C: Final = (
    "The first Ctrl-C ends the search and returns the best schedule so far."
)  # fmt: skip
_EXAMPLES: Final = {
    "": (
        "spm-opt list",
        "spm-opt solve mobilenet_v2 --hw mobile_npu -o plan",
        "spm-opt --install-completion",
    ),
    "solve": (
        "spm-opt solve mobilenet_v2 --hw mobile_npu -o plan",
        "spm-opt solve model.onnx --set spm.capacity=256KiB --objective dram --json",
        "spm-opt solve model.onnx --densities densities.csv --set dram.compression=run_length",
        "spm-opt solve mobilenet_v2 --no-pin features.1.project --explain",
        "spm-opt solve mobilenet_v2 --no-fuse features.3.expand,features.3.depthwise",
    ),
    "compare": ("spm-opt compare mobilenet_v2 --strategies joint,fuse --time-limit 30",),
    "check": ("spm-opt check plan", "spm-opt check plan --quiet || echo broken"),
    "info": ("spm-opt info mobilenet_v2 --set spm.alignment=64",),
    "simulate": ("spm-opt simulate plan --json",),
    "emit": ("spm-opt emit plan -o c", "spm-opt emit plan --weights model.onnx -o c"),
    "run": ("spm-opt run c", "spm-opt run c --input x.npy --reference model.onnx"),
    "density": ("spm-opt density model.onnx --input x.npy -o densities.csv",),
    "alloc": ("spm-opt alloc buffers.csv --capacity 256KiB",),
    "explore": (
        "spm-opt explore mobilenet_v2 --layers features.3.expand:features.3.project",
        "spm-opt explore mobilenet_v2 --min 64KiB --max 1MiB -o points",
    ),
    "plot": (
        "spm-opt plot plan -o memory.svg",
        "spm-opt plot joint pin --kind traffic -o traffic.pdf",
    ),
    "report": (
        "spm-opt report plan -o report.html",
        "spm-opt report plan other -o both.html",
        "spm-opt report plan --compare --what-if --time-limit 20 -o report.html",
    ),
    "list": ("spm-opt list --json",),
}

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="nothing on standard error but errors")
]  # fmt: skip


def exit_codes(codes: tuple[int, ...] = tuple(EXIT_CODES)) -> str:
    """The sentence about exit codes."""
    return "Exit codes: " + "; ".join(f"{code} {EXIT_CODES[code]}" for code in codes) + "."


def epilog(command: str, codes: str | None = None) -> str:
    """Examples and exit codes of a command; all of them for the program itself.

    Parameters
    ----------
    codes : str, optional
        The command's own sentence about its exit codes.
    """
    own = f"{exit_codes()} {_CTRL_C}" if codes is None else codes
    examples = "\n".join(f"  {line}" for line in _EXAMPLES[command])
    return f"Examples:\n\n\b\n{examples}\n\n{own}"
