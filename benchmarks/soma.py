"""Plans of networks in SoMa's table form, beside its published results.

    python benchmarks/soma.py [--tables DIR] [--net NAME] [--dram BYTES_PER_CYCLE] [--spm SIZE]
                              [--time-limit S] [--json]

Without ``--net``, the published cases. Each is planned freely, and with the two restrictions of
SoMa's schedules: the classifier and the pooling before it form a group of their own, and an input
of the network is loaded once for each reader. Every element is one byte, the machine `soma_edge`.
A plan that the checker refuses is an error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from page import ROOT, write_section
from soma_replay import replayed_cycles
from soma_tables import network_of, read_rows

from spm_opt.api import load_hardware
from spm_opt.commands import lower
from spm_opt.errors import SpmOptError
from spm_opt.params import SolveParams
from spm_opt.planner import plan
from spm_opt.problem import Problem
from spm_opt.schedule import Schedule
from spm_opt.site import Site
from spm_opt.verify import verify
from spm_opt.verify.commands import verify_commands

TABLES = ROOT.parent / "shared" / "soma"
#: network, DRAM bytes per cycle, SPM, SoMa's cycles (HPCA 2025, best of the seeds run; None: none
#: found)
PUBLISHED = (
    ("resnet50", 16, "8 MiB", 1_624_151),
    ("resnet50", 32, "8 MiB", 873_883),
    ("resnet50", 64, "8 MiB", 631_524),
    ("resnet50", 128, "8 MiB", 564_307),
    ("resnet50", 16, "4 MiB", 1_673_380),
    ("resnet50", 16, "3 MiB", None),
    ("resnet50_b4", 16, "8 MiB", 2_626_714),
    ("gpt2_small_prefill", 16, "8 MiB", 648_960),
    ("gpt2_small_prefill", 16, "4 MiB", 900_672),
    ("gpt2_small_prefill", 8, "8 MiB", 1_144_320),
    ("gpt2_small_prefill", 32, "8 MiB", 588_288),
    ("gpt2_small_decode", 16, "8 MiB", 500_895),
    ("randwire_small", 16, "8 MiB", 487_638),
)
VARIANTS = ("free", "restricted")
HEAD = ("case", "variant", "SoMa", "cycles", "ratio", "bound", "gap", "compute", "DRAM bytes",
        "SPM peak", "their rule", "seconds", "verified")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One network on one machine, planned in one way."""

    net: str
    dram_bytes_per_cycle: int
    spm: str
    variant: str
    soma_cycles: int | None
    latency_cycles: int
    lower_bound_cycles: int
    gap: float
    compute_cycles: int
    dram_bytes: int
    spm_high_water_bytes: int
    replayed_cycles: int
    solve_seconds: float
    verified: bool

    def cells(self) -> tuple[str, ...]:
        soma = "none" if self.soma_cycles is None else f"{self.soma_cycles:,}"
        ratio = "" if not self.soma_cycles else f"{self.latency_cycles / self.soma_cycles:.3f}"
        return (
            f"{self.net}, {self.dram_bytes_per_cycle} B/cycle, {self.spm}", self.variant, soma,
            f"{self.latency_cycles:,}", ratio, f"{self.lower_bound_cycles:,}", f"{self.gap:.2%}",
            f"{self.compute_cycles:,}", f"{self.dram_bytes:,}", f"{self.spm_high_water_bytes:,}",
            f"{self.replayed_cycles:,}", f"{self.solve_seconds:.0f}",
            "yes" if self.verified else "NO",
        )  # fmt: skip


def restricted(site: Site, problem: Problem, apart: frozenset[str]) -> Problem:
    """The problem under SoMa's two restrictions; `apart` names the classifier's layers."""
    inputs = {site.map_index[name] for name in site.network.inputs}

    def allowed(first: int, end: int, reads: tuple[int, ...]) -> bool:
        names = {site.network.layers[site.parts[p].layer].name for p in range(first, end)}
        together = not names & apart or names <= apart
        return together and not inputs.intersection(reads)

    return problem.only(lambda c: allowed(c.first, c.end, c.reads))


def classifier(folder: Path, net: str) -> frozenset[str]:
    """The last fully connected layer and the pooling that feeds it, by their layers' names."""
    rows = read_rows(folder, net)
    found = [row for row in rows if row.type == "FC"][-1:]
    found += [row for row in rows if row.type == "Pooling" and found and row.id in found[0].maps]
    return frozenset(f"{row.id} {row.name}" for row in found)


def run(
    folder: Path, net: str, dram: int, spm: str, variant: str, soma: int | None, limit: float
) -> Case:
    """Plan, check, and replay one case."""
    network = network_of(folder, net)
    machine = load_hardware("soma_edge", {"spm.capacity": spm, "dram.bandwidth": f"{dram} B/cycle"})
    apart = classifier(folder, net)
    restrict = None if variant == "free" else lambda s, p: restricted(s, p, apart)
    began = time.monotonic()
    schedule = plan(network, machine, SolveParams(time_limit=limit), restrict=restrict)
    seconds = time.monotonic() - began
    return _case(net, dram, spm, variant, soma, schedule, seconds)


def _case(
    net: str, dram: int, spm: str, variant: str, soma: int | None, schedule: Schedule,
    seconds: float,
) -> Case:  # fmt: skip
    claims, made = schedule.claims, schedule.provenance
    bad = verify(schedule) or verify_commands(schedule, lower(schedule))
    for sentence in bad[:5]:
        print(sentence, file=sys.stderr)
    return Case(
        net, dram, spm, variant, soma, claims.latency_cycles, made.objective_bound,
        1 - made.objective_bound / max(1, claims.latency_cycles), claims.compute_cycles,
        claims.dram_bytes, claims.spm_peak_bytes, replayed_cycles(schedule), seconds, not bad,
    )  # fmt: skip


def table(cases: list[Case]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|---|---|" + "--:|" * (len(HEAD) - 3) + "---|"]
    return "\n".join([*lines, *("| " + " | ".join(case.cells()) + " |" for case in cases)]) + "\n"


def wanted(arguments: argparse.Namespace) -> Iterator[tuple[str, int, str, int | None]]:
    """The published cases, or those of one network, or cases of the user's machine."""
    nets = [arguments.net] if arguments.net else list(dict.fromkeys(case[0] for case in PUBLISHED))
    peers = {(net, dram, spm): soma for net, dram, spm, soma in PUBLISHED}
    for net in nets:
        cases = [(n, dram, spm) for n, dram, spm in peers if n == net]
        if not cases or arguments.dram or arguments.spm:
            cases = [(net, arguments.dram or 16, arguments.spm or "8 MiB")]
        yield from ((*case, peers.get(case)) for case in cases)


def is_published(arguments: argparse.Namespace) -> bool:
    """Whether all published cases are asked for, and nothing else."""
    own = arguments.net or arguments.dram or arguments.spm
    return not own and arguments.tables == TABLES and set(arguments.variants) == set(VARIANTS)


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", type=Path, default=TABLES)
    parser.add_argument("--net", help="name before _layers.csv")
    parser.add_argument("--dram", type=_positive, metavar="BYTES_PER_CYCLE")
    parser.add_argument("--spm", metavar="SIZE", help="as in '4 MiB'")
    parser.add_argument("--time-limit", type=float, default=120.0)
    parser.add_argument("--variants", type=_variants, default=VARIANTS)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def _positive(word: str) -> int:
    if not word.isdecimal() or not int(word):
        raise argparse.ArgumentTypeError(f"{word!r} is no positive whole number")
    return int(word)


def _variants(word: str) -> tuple[str, ...]:
    found = tuple(word.split(","))
    if not set(found) <= set(VARIANTS):
        raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(VARIANTS)}")
    return found


def main() -> int:
    arguments = parse(sys.argv[1:])
    cases: list[Case] = []
    for net, dram, spm, soma in wanted(arguments):
        for variant in arguments.variants:
            try:
                cases.append(
                    run(arguments.tables, net, dram, spm, variant, soma, arguments.time_limit)
                )
            except (SpmOptError, OSError) as error:
                print(f"{net} {variant}: {error}", file=sys.stderr)
                return 1
            print(" ".join(cases[-1].cells()), file=sys.stderr, flush=True)
    figures = [asdict(case) for case in cases]
    print(json.dumps(figures, indent=1) if arguments.json else table(cases))
    if not all(case.verified for case in cases):
        return 1
    if is_published(arguments) and not arguments.json:
        write_section("soma", table(cases))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
