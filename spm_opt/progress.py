"""Watching and stopping a running solve: the line of progress, and Ctrl-C.

Knows `Progress` records and functions that take a stop event; no network, no schedule.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final, TextIO, TypeVar

from spm_opt.params import Progress
from spm_opt.report import relative_gap

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

T = TypeVar("T")

STOPPING: Final = "stopping: the best schedule so far is returned (Ctrl-C again aborts)"
#: seconds between two plain lines, so that a log file stays readable
_PLAIN_PERIOD: Final = 2.0
_UNITS: Final = {
    "latency": "cycles", "dram": "bytes", "energy": "fJ", "edp": "fJ cycles",
}  # fmt: skip


def progress_text(progress: Progress) -> str:
    """One line for people: phase, incumbent, bound and gap, as far as they are known."""
    unit = _UNITS.get(progress.objective, "")
    parts = [progress.phase]
    if progress.incumbent is not None:
        parts.append(f"best {progress.incumbent:,} {unit}")
    if progress.bound is not None:
        parts.append(f"bound {progress.bound:,}")
    if progress.incumbent is not None and progress.bound is not None:
        parts.append(f"gap {100 * relative_gap(progress.incumbent, progress.bound):.2f} %")
    return ", ".join(parts)


class ProgressLine:
    """A callback that shows `Progress` on a stream: one live line on a terminal, else plain lines.

    Parameters
    ----------
    stream : text stream, optional
        Standard error by default. Nothing is ever written to standard output.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._lock = threading.Lock()
        self._last_text = ""
        self._last_time = float("-inf")
        self._closed = False
        self._live: RichProgress | None = None

    def __enter__(self) -> ProgressLine:
        if self._stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
            self._live = _live_line(self._stream)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            if self._live is not None:
                self._live.stop()

    def __call__(self, progress: Progress) -> None:
        """Show `progress`; may be called from any thread."""
        text = progress_text(progress)
        with self._lock:
            if self._closed:
                return
            if self._live is not None:
                self._live.update(self._live.task_ids[0], description=text)
            else:
                self._plain(text, progress.seconds)

    def _plain(self, text: str, seconds: float) -> None:
        now = time.monotonic()
        if text == self._last_text or now - self._last_time < _PLAIN_PERIOD:
            return
        self._last_text, self._last_time = text, now
        print(f"[{seconds:7.1f} s] {text}", file=self._stream, flush=True)


def run_interruptibly(work: Callable[[threading.Event], T]) -> T:
    """Run ``work(stop)`` so that Ctrl-C sets `stop`, and a second Ctrl-C aborts.

    The work runs in a thread of its own, because Python handles signals in the main thread only,
    and not while that thread is inside the solver. Outside the main thread, or where the
    application handles Ctrl-C itself, the work simply runs.

    Raises
    ------
    KeyboardInterrupt
        At the second Ctrl-C; the abandoned thread is a daemon.
    """
    stop = threading.Event()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return work(stop)
    future: Future[T] = Future()
    previous = signal.signal(signal.SIGINT, _stopper(stop))
    try:
        threading.Thread(target=_fulfil, args=(future, work, stop), daemon=True).start()
        return future.result()
    finally:
        signal.signal(signal.SIGINT, previous)


def _stopper(stop: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handle(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        sys.stderr.write(STOPPING + "\n")  # at once: the next Ctrl-C may fall between two writes

    return handle


def _fulfil(future: Future[T], work: Callable[[threading.Event], T], stop: threading.Event) -> None:
    try:
        future.set_result(work(stop))
    except BaseException as error:
        future.set_exception(error)


def _live_line(stream: TextIO) -> RichProgress:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    live = RichProgress(
        SpinnerColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(file=stream),
        transient=True,
    )
    live.add_task("reading")
    return live
