"""What the tests of comparisons share: rows, and runs that nobody made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlclf.comparing import ComparedRows, Comparison, compare
from mlclf.comparing.comparison import Run
from mlclf.comparing.jobs import Settings
from mlclf.comparing.matrix import Cell
from mlclf.datasets import make_feedback

HOSTILE = """<script>alert("x")</script>'&<img src=x onerror=y>"""
ROWS = ComparedRows(train=make_feedback(60), test=make_feedback(20, random_state=1))


def result(micro: float = 0.5, **given: Any) -> dict[str, Any]:
    """What the process of a run writes."""
    names = ("macro_f1", "samples_f1", "mean_average_precision", "micro_f1_at_half", "macro_f1_at_half")
    return {
        "status": "finished",
        "figures": {"micro_f1": micro, **dict.fromkeys(names, 0.25)},
        "seconds": 12.0,
        "rows_per_second": 300.0,
        "precision": "fp32",
        "best_epoch": 1.0,
        "n_trainable": 10,
        "n_parameters": 1000,
        "share": 0.01,
        "choice": None,
        "peak_memory": 500 << 20,
        "peak_gpu_memory": None,
        **given,
    }


def cell(strategy: str = "lora", backbone: str = "bert", head: str = "bce") -> Cell:
    entries: Any = {kind: [{"name": kind, "options": {}}] for kind in ("backbone", "strategy", "head")}
    return Cell(backbone, strategy, head, entries)


def comparison(*runs: Run, **given: Any) -> Comparison:
    return Comparison(ROWS, (0, 1), Settings(), runs=runs, **given)


def fits(asked: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [
        (content["job"]["components"]["strategy"][0]["name"], content["job"]["seed"])
        for content in asked
        if content["kind"] == "fit"
    ]


def run_twice(fake: list[dict[str, Any]], out: Path, first: dict[str, Any], second: dict[str, Any]) -> int:
    """Return how many fits a second comparison makes."""
    same = {"backbones": ["bert"], "strategies": ["lora"], "seeds": 1, "verbose": 0, "out": out}
    compare(first.pop("data", ROWS), **{**same, **first})
    fake.clear()
    compare(second.pop("data", ROWS), **{**same, **second})
    return len(fits(fake))
