"""What every benchmark shares: data, machine and version facts, isolated runs, tables and JSON."""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = (
    *("mlclf", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "scikit-learn", "numpy"),
    *("onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "tokenizers", "trl"),
)


def read_split(folder: Path, split: str, limit: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Read ``{split}.jsonl.gz`` with ``text`` and ``labels``."""
    path = folder / f"{split}.jsonl.gz"
    if not path.is_file():
        sys.exit(f"{path} is missing: give --data a folder with train, dev and test as {{split}}.jsonl.gz.")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:limit]
    return [row["text"] for row in rows], [row["labels"] for row in rows]


def environment() -> dict[str, Any]:
    """Return versions, processor and cores, to stand beside every number."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name == "mlclf":
                versions[name] = "source"
    return {
        "python": platform.python_version(),
        **versions,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def matmul_peak(dtype_name: str) -> float:
    """Return the fastest square matrix product of this machine in FLOP a second, best of many."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype_name]
    a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    best = float("inf")
    for _ in range(15):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best


def peak_memory() -> float:
    """Return this process's largest resident memory so far in MiB.

    Not that of ``getrusage``, which begins with the memory of the process that started this one.
    """
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def run_isolated(script: str, job: dict[str, Any], threads: int | None = None) -> dict[str, Any]:
    """Run ``script --job JSON`` as a process of its own and return the JSON of its last line.

    One process a measurement: memory peaks are its own, and nothing is warm from a competitor. ``threads`` limits the
    arithmetic to so many cores.
    """
    command = [sys.executable, script, "--job", json.dumps(job)]
    limits = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, **limits})
    if done.returncode != 0:
        raise SystemExit(f"benchmark job failed: {job}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def run_kept(
    script: str, job: dict[str, Any], label: str, folder: Path | None, threads: int | None = None
) -> dict[str, Any]:
    """Run a job as :func:`run_isolated` does, or take its result from a folder of finished runs."""
    return kept(lambda given: run_isolated(script, given, threads), job, label, folder)


def kept(
    run: Callable[[dict[str, Any]], dict[str, Any]], job: dict[str, Any], label: str, folder: Path | None
) -> dict[str, Any]:
    """Run a job, or take its result from a folder of finished runs.

    The job is given the path of its result under ``"keep"``, so that it can write more beside it.
    """
    if folder is None:
        return run(job)
    digest = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:8]
    path = folder.resolve() / f"{label}-{digest}.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    result = run({**job, "keep": str(path)})
    path.write_text(json.dumps(result), encoding="utf-8")
    return result


def spread(values: list[float]) -> str:
    """Return mean and, for several values, sample standard deviation."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def command_line(script: str) -> str:
    """Return the command that was run, without this machine's paths: the data folder's name stands in capitals."""
    words = list(sys.argv[1:])
    for place in ("--keep", "--models"):
        if place in words:
            del words[words.index(place) : words.index(place) + 2]
    if "--data" in words:
        words[words.index("--data") + 1] = Path(words[words.index("--data") + 1]).name.upper()
    return shlex.join(["python", f"benchmarks/{script}", *words])


def write_report(out: Path | None, title: str, script: str, table: str, results: dict[str, Any]) -> None:
    """Print a table and, where a folder is given, write it as Markdown and everything as JSON."""
    command = command_line(script)
    facts = ", ".join(f"{key} {value}" for key, value in environment().items())
    text = f"### {title}\n\n`{command}`\n\n{table}\n\nMeasured with {facts}.\n"
    print(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        name = title.lower().replace(" ", "_").replace(":", "")
        (out / f"{name}.md").write_text(text, encoding="utf-8")
        (out / f"{name}.json").write_text(
            json.dumps({"environment": environment(), "command": command, **results}, indent=1), encoding="utf-8"
        )
