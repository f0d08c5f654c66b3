"""Processes: tasks side by side, each in a process of its own, and none of them left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOOK_AGAIN = 0.05
# A training step notes an interruption and ends first.
_PATIENCE = 10.0


@dataclass(frozen=True, eq=False)
class Task:
    """Something for a process of :mod:`mlclf.comparing.worker`.

    Parameters
    ----------
    content : dict
        JSON-ready; ``"kind"`` says what is to be done.
    stem : Path
        Path without ending of its files: the task itself, the result (``.json``), and what it prints (``.log``).
    """

    content: dict[str, Any]
    stem: Path

    @property
    def result_file(self) -> Path:
        """Where the process writes its result."""
        return self.stem.with_name(f"{self.stem.name}.json")

    @property
    def file(self) -> Path:
        """Where the process reads what is to be done."""
        return self.stem.with_name(f"{self.stem.name}.task")

    @property
    def log_file(self) -> Path:
        """Where its messages go."""
        return self.stem.with_name(f"{self.stem.name}.log")


def results(tasks: Iterable[Task], *, parallel: int, threads: int) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Do tasks, and yield each with its result as it ends.

    Whatever ends the loop, also Ctrl-C or SIGTERM, ends the processes that run.

    Parameters
    ----------
    tasks : iterable of Task
    parallel : int
        Processes at once.
    threads : int
        Threads of each.

    Yields
    ------
    task, result : Task, dict
        A result with ``"status": "failed"`` has a ``"reason"``.
    """
    waiting = iter(tasks)
    running: dict[Task, subprocess.Popen[bytes]] = {}
    with _sigterm_as_interrupt():
        try:
            _start_more(waiting, running, parallel, threads)
            while running:
                for task in [task for task, process in running.items() if process.poll() is not None]:
                    status = _closed(running.pop(task)).returncode
                    _start_more(waiting, running, parallel, threads)
                    yield task, _result(task, status)
                time.sleep(_LOOK_AGAIN)
        finally:
            _stop(running)


def _start_more(
    waiting: Iterator[Task], running: dict[Task, subprocess.Popen[bytes]], parallel: int, threads: int
) -> None:
    while len(running) < parallel and (task := next(waiting, None)) is not None:
        running[task] = _start(task, threads)


def _start(task: Task, threads: int) -> subprocess.Popen[bytes]:
    task.stem.parent.mkdir(parents=True, exist_ok=True)
    task.result_file.unlink(missing_ok=True)
    task.file.write_text(json.dumps({**task.content, "result": str(task.result_file)}), encoding="utf-8")
    with task.log_file.open("wb") as log:
        return subprocess.Popen(
            # -P: a file torch.py in the current folder is nobody's library.
            [sys.executable, "-P", "-m", "mlclf.comparing.worker", str(task.file)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"},
            # Ctrl-C reaches the starting process alone, which ends the others.
            start_new_session=True,
        )


def _result(task: Task, status: int) -> dict[str, Any]:
    """Return what a process has written, or why it could not."""
    task.file.unlink(missing_ok=True)
    try:
        found: dict[str, Any] = json.loads(task.result_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"status": "failed", "reason": _why(task, status), "error": None}
    if found["status"] == "finished":
        task.log_file.unlink(missing_ok=True)
    return found


def _why(task: Task, status: int) -> str:
    """Return why a process ended without a result."""
    if status < 0:
        memory = ", most likely for lack of memory" if -status == signal.SIGKILL else ""
        return f"The process was ended by signal {signal.Signals(-status).name}{memory}."
    lines = task.log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = f": {lines[-1]}" if lines else "."
    return f"The process ended with status {status} and no result{last} See {task.log_file}."


def _stop(running: dict[Task, subprocess.Popen[bytes]]) -> None:
    """End processes: with a request, and with force where it is not heard. Nothing stays of them."""
    for process in running.values():
        process.terminate()
    until = time.monotonic() + _PATIENCE
    for task, process in running.items():
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _closed(process)
        for file in (task.file, task.log_file):
            file.unlink(missing_ok=True)


def _closed(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    if process.stdin is not None:
        process.stdin.close()
    return process


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM interrupt as Ctrl-C does, in the main thread, where Python allows it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
