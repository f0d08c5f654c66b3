"""How many rows a strategy needs to beat training the head alone: the measurements behind rules of ``strategy="auto"``.

    python benchmarks/choosing.py --data GOEMOTIONS --out docs/benchmarks
    python benchmarks/choosing.py --data GOEMOTIONS --backbone static:hashed --strategies head-only full --epochs 3 30

Each number of training rows is a comparison as ``mlclf compare`` makes it, on the same test rows, with default options.
The second one needs the plugin mlclf-static. With ``--keep FOLDER`` an interrupted command goes on where it was.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from common import markdown_table, read_split, write_report

from mlclf import TrainingOptions
from mlclf.comparing import ComparedRows, compare
from mlclf.comparing.table import CellSummary
from mlclf.datasets import Dataset

FIGURES = ("micro_f1", "macro_f1", "mean_average_precision")


def main() -> None:
    """Make a comparison for each number of rows, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="*", default=[100, 300, 1000])
    parser.add_argument("--backbone", default="minilm:l6")
    parser.add_argument("--strategies", nargs="*", default=["head-only", "lora", "full"])
    parser.add_argument("--epochs", type=int, nargs="*", default=[3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--parallel", type=int, default=1, help="runs at once")
    parser.add_argument("--keep", type=Path, help="folder of the comparisons")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = options.keep or Path(work)
        found = {(n, epochs): comparison(options, n, epochs, folder) for n in options.rows for epochs in options.epochs}
    table = [cells(*sizes, summary) for sizes, summaries in found.items() for summary in summaries]
    header = ["training rows", "epochs", "strategy", "seeds", "micro-F1", "macro-F1", "mAP", "peak MiB"]
    runs = [
        {"rows": n, "epochs": epochs, "cells": [summary.to_dict() for summary in summaries]}
        for (n, epochs), summaries in found.items()
    ]
    backbone = "" if options.backbone == "minilm:l6" else f" {options.backbone.replace(':', ' ')}"
    title = f"Choosing {options.data.name}{backbone}"
    write_report(options.out, title, "choosing.py", markdown_table(header, table), {"runs": runs})


def comparison(options: argparse.Namespace, rows: int, epochs: int, folder: Path) -> list[CellSummary]:
    """Compare the strategies on so many training rows."""
    data = ComparedRows(
        train=dataset(*read_split(options.data, "train", rows)),
        test=dataset(*read_split(options.data, "test", options.test_rows)),
        source=options.data.name,
    )
    return compare(
        data,
        out=folder / f"{rows}-{epochs}",
        backbones=[options.backbone],
        strategies=options.strategies,
        seeds=options.seeds,
        parallel=options.parallel,
        training=TrainingOptions(epochs=epochs),
    ).cells


def dataset(texts: list[str], labels: list[list[str]]) -> Dataset:
    """Return rows in mlclf's form."""
    rows: list[Any] = [tuple(row) for row in labels]
    return Dataset(texts, rows, tuple(sorted({label for row in rows for label in row})))


def cells(rows: int, epochs: int, summary: CellSummary) -> list[str]:
    """Return a row of the table."""
    figures = [str(summary.figures[figure]) for figure in FIGURES]
    memory = f"{summary.figures['peak_memory'].mean / 2**20:.0f}"
    return [str(rows), str(epochs), summary.cell.strategy, str(len(summary.seeds)), *figures, memory]


if __name__ == "__main__":
    main()
