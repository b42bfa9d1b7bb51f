"""Emitted programs compiled together and run: many small networks in one executable.

Kernels and DMA engine are compiled once for the whole session; each program adds its own
``schedule.c``, and runs with transfers as early and as late as its waits allow. Either way it must
start and await what the commands of its schedule say.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled import shared_folder
from numpy.typing import NDArray

from spm_opt.commands import Command, lower
from spm_opt.emit.c_order import program_order
from spm_opt.emit.c_program import index_bounds
from spm_opt.emit.c_project import fixed_sources
from spm_opt.graph.network import Network
from spm_opt.schedule import Schedule

Array = NDArray[Any]
COMPILER = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
FLAGS = ("-std=c11", "-ffp-contract=off")
STRICT = ("-Wall", "-Wextra", "-Werror")
MODES = ("early", "late")


def drawn_inputs(network: Network, seed: int) -> dict[str, Array]:
    """Random inputs, in the tensors' own types."""
    rng, bounds, found = np.random.default_rng(seed), index_bounds(network), {}
    for name in network.inputs:
        tensor = network.tensors[name]
        if tensor.dtype.startswith("float"):
            found[name] = rng.standard_normal(tensor.shape).astype(tensor.dtype)
        elif name in bounds:
            found[name] = rng.integers(0, bounds[name], tensor.shape).astype(tensor.dtype)
        else:
            info = np.iinfo(tensor.dtype)
            found[name] = rng.integers(info.min, info.max + 1, tensor.shape).astype(tensor.dtype)
    return found


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)
    return folder


DRIVER = r"""
#define _POSIX_C_SOURCE 200809L
#include "dma.h"
#include "program.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "programs.h"
static FILE *jobs, *results;
static void move(const program_map *map, unsigned char *dram, int in) {
    size_t run = (size_t)map->inner * (size_t)map->element_bytes;
    for (int64_t o = 0; o < map->images * map->outer; o++)
        for (int64_t r = 0; r < map->rows; r++) {
            int64_t row = o / map->outer * map->rows + r;
            unsigned char *at =
                dram + map->address + (size_t)(row * map->outer + o % map->outer) * run;
            if ((in ? fread(at, 1, run, jobs) : fwrite(at, 1, run, results)) != run) exit(4);
        }
}
static void job(const program *p, const char *mode) {
    unsigned char *dram = malloc(p->dram_bytes);
    memset(dram, 0x5A, p->dram_bytes);
    rewind(jobs);
    for (int32_t i = 0; i < p->constants; i++)
        if (fread(dram + p->constant[i].address, 1, p->constant[i].bytes, jobs)
            != p->constant[i].bytes) exit(5);
    for (int32_t i = 0; i < p->inputs; i++) move(&p->input[i], dram, 1);
    setenv("SPM_DMA", mode, 1);
    dma_open(p->spm, p->spm_bytes, dram, p->dram_bytes, p->burst_bytes, p->code);
    p->run(dram);
    dma_counts c = dma_close();
    uint64_t counts[4] = {c.loaded, c.stored, c.macs, c.transfers};
    fwrite(counts, sizeof counts, 1, results);
    for (int32_t i = 0; i < p->outputs; i++) move(&p->output[i], dram, 0);
    free(dram);
}
/* A program that fails must not take the others with it: each runs in a process of its own. */
static void run(size_t i, const char *folder) {
    char name[4096];
    snprintf(name, sizeof name, "%s/job_%d", folder, (int)i);
    jobs = fopen(name, "rb");
    snprintf(name, sizeof name, "%s/result_%d", folder, (int)i);
    results = fopen(name, "wb");
    snprintf(name, sizeof name, "%s/trace_%d", folder, (int)i);
    if (jobs == NULL || results == NULL || freopen(name, "w", stdout) == NULL) exit(6);
    job(programs[i], "early");
    job(programs[i], "late");
    exit(fclose(results));
}
int main(int argc, char **argv) {
    for (size_t i = 0; argc == 2 && i < sizeof programs / sizeof *programs; i++) {
        fflush(stdout);
        pid_t child = fork();
        int status = 1;
        if (child == 0) run(i, argv[1]);
        if (child < 0 || waitpid(child, &status, 0) < 0) return 7;
        printf("%d\n", status);
    }
    return 0;
}
"""


@dataclass(frozen=True)
class Ran:
    """What a program counted, and its outputs, by mode."""

    loaded: int
    stored: int
    macs: int
    outputs: dict[str, dict[str, Array]]

    @property
    def dram_bytes(self) -> int:
        return self.loaded + self.stored


@dataclass
class Job:
    schedule: Schedule
    files: Mapping[str, str | bytes]
    inputs: Mapping[str, Array]

    @property
    def network(self) -> Network:
        return self.schedule.network


@dataclass
class Batch:
    """Programs to compile and run together; `objects` as `compiled_fixed` gives them."""

    objects: Path
    folder: Path
    jobs: list[Job] = field(default_factory=list)

    def add(
        self, schedule: Schedule, files: Mapping[str, str | bytes], inputs: Mapping[str, Array]
    ) -> int:
        self.jobs.append(Job(schedule, files, inputs))
        return len(self.jobs) - 1

    def run(self) -> list[Ran]:
        """What every program did, and that it did what its schedule's commands say, in order."""
        found = [ran for ran in self.outcomes() if ran is not None]
        assert len(found) == len(self.jobs), "a program failed"
        for i, job in enumerate(self.jobs):
            trace = (self.folder / f"trace_{i}").read_text().splitlines()
            both = enumerate(zip_longest(trace, expected_trace(job.schedule) * len(MODES)))
            wrong = next((f"{n}: {a}, not {b}" for n, (a, b) in both if a != b), None)
            assert wrong is None, f"program {i}, line {wrong}"
        return found

    def outcomes(self) -> list[Ran | None]:
        """What every program did; None where it failed."""
        program = self._build()
        for i, job in enumerate(self.jobs):
            (self.folder / f"job_{i}").write_bytes(self._input(job))
        states = call([str(program), str(self.folder)]).split()
        return [
            _read(job, (self.folder / f"result_{i}").read_bytes()) if state == "0" else None
            for i, (job, state) in enumerate(zip(self.jobs, states, strict=True))
        ]

    def _compile(self, job: Job, name: str) -> Path:
        """The object file of a job's own sources."""
        kept = ("schedule.c", "layers.h")
        folder = write_files(self.folder / name, {k: job.files[k] for k in kept})
        source, made = folder / "schedule.c", folder / "schedule.o"
        options = [*FLAGS, *STRICT, "-O0", f"-Dnetwork={name}", f"-I{self.objects}"]
        call([COMPILER or "cc", *options, "-c", str(source), "-o", str(made)])
        return made

    def _build(self) -> Path:
        # jobs of one program differ in what it reads: it is compiled once
        known: dict[tuple[str | bytes, ...], str] = {}
        names, own = [], []
        for job in self.jobs:
            text = (job.files["schedule.c"], job.files["layers.h"])
            if text not in known:
                known[text] = f"network_{len(known)}"
                own.append(self._compile(job, known[text]))
            names.append(known[text])
        listed = [f"extern const program {name};\n" for name in known.values()]
        addresses = ", ".join(f"&{name}" for name in names)
        listed.append(f"static const program *const programs[] = {{{addresses}}};\n")
        write_files(self.folder, {"programs.h": "".join(listed), "driver.c": DRIVER})
        program = self.folder / "programs"
        fixed = [str(path) for path in sorted(self.objects.glob("*.o"))]
        call(
            [
                COMPILER or "cc",
                *FLAGS,
                "-O0",
                f"-I{self.objects}",
                str(self.folder / "driver.c"),
                *map(str, own),
                *fixed,
                "-lm",
                "-o",
                str(program),
            ]
        )
        return program

    def _input(self, job: Job) -> bytes:
        weights = job.files["weights.bin"]
        assert isinstance(weights, bytes)
        arrays = [np.ascontiguousarray(job.inputs[name]) for name in job.network.inputs]
        return weights + b"".join(array.tobytes() for array in arrays)


def expected_trace(schedule: Schedule) -> list[str]:
    """What a program of `schedule` prints with ``SPM_TRACE``."""
    order = program_order(lower(schedule))
    transfers = (command for command in order if command.kind != "compute")
    tickets = {command.number: n for n, command in enumerate(transfers, start=1)}
    lines: list[str] = []
    for command in order:
        if command.kind == "compute":
            lines += [f"wait {tickets[number]}" for number in command.waits]
        lines.append(_expected_line(command, tickets.get(command.number, 0)))
    return lines


def _expected_line(command: Command, ticket: int) -> str:
    begin, end = command.rows
    if command.kind == "compute":
        return f"compute {command.step} {command.tile} rows {begin} {end} {command.name}"
    dram, window = command.dram, command.output or command.inputs[0]
    assert dram is not None
    address = window.base_bytes
    if command.role == "weights":
        # one run, that may begin inside its buffer
        begin, end, address = 0, 1, address + window.first_byte
    return (
        f"{command.kind} {ticket} dram {dram.address} spm {address} rows {begin} {end} "
        f"bytes {dram.run_bytes} runs {dram.runs}"
    )


def _read(job: Job, data: bytes) -> Ran:
    outputs: dict[str, dict[str, Array]] = {}
    counts: set[tuple[int, ...]] = set()
    at = 0
    for mode in MODES:
        counts.add(struct.unpack_from("<4Q", data, at))
        at += 32
        outputs[mode] = {}
        for name in job.network.outputs:
            tensor = job.network.tensors[name]
            array = np.frombuffer(data[at : at + tensor.size_bytes], tensor.dtype)
            outputs[mode][name] = array.reshape(tensor.shape)
            at += tensor.size_bytes
    (only,) = counts
    assert at == len(data)
    return Ran(*only[:3], outputs)


def compiled_fixed(factory: pytest.TempPathFactory, *flags: str) -> Path:
    """Objects and headers of what is the same for every network; compiled once in a session."""
    sources = {k: v for k, v in fixed_sources().items() if k.endswith((".c", ".h"))}
    options = [*FLAGS, *STRICT, *(flags or ("-O2",)), "-DSPM_CHECK", "-DSPM_TRACE"]

    def compile_them(folder: Path) -> None:
        write_files(folder, sources)
        files = [name for name in sources if name.endswith(".c") and name != "main.c"]
        call([COMPILER or "cc", *options, "-c", *files], folder)

    return shared_folder(factory, [*options, *sources, *sources.values()], compile_them)


def call(command: Sequence[str], folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[:4000]}"
    return done.stdout


def figures(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found
