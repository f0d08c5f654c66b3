"""Label query: all labels behind a text in one pass, against a forward pass for each label.

    python benchmarks/label_query.py --out docs/benchmarks
    python benchmarks/label_query.py --sizes '[[128, 10]]'                   # a dry run

A random Llama of 3 million weights reads one text with the labels of the head ``label-query``: once as the head does,
and once with text and label in a row of their own, one label after the other. Both give the same states; the largest
difference stands in the table. What is measured is processor time on one thread, the best of several rounds; of one
label at a time a sample of labels is read, and its time is taken times their number. Memory is what the reading took
above the loaded model, in a process of its own for each size. Cost does not depend on the weights.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import markdown_table, peak_memory, run_isolated, write_report

# Tokens of the text, labels.
SIZES = [[128, 10], [128, 100], [128, 1000], [512, 10], [512, 100], [512, 1000], [512, 2000]]
SAMPLE = 20
SHAPE = {"hidden": 256, "feed_forward": 704, "layers": 4, "heads": 4, "kv_heads": 4}


def main() -> None:
    """Measure every size in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=json.loads, default=SIZES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--job", type=json.loads, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(run_job(**options.job)))
        return
    runs = [
        run_isolated(__file__, {"length": length, "n_labels": n_labels, "rounds": options.rounds}, threads=1)
        for length, n_labels in options.sizes
    ]
    header = [
        "text tokens",
        "labels",
        "label tokens",
        "together (ms)",
        "one at a time (ms)",
        "ratio",
        "MiB",
        "largest difference",
    ]
    table = [
        [f"{r['length']}", f"{r['n_labels']:,}", f"{r['label_tokens']:,}", f"{1000 * r['together']:,.0f}",
         f"{1000 * r['alone']:,.0f}", f"{r['alone'] / r['together']:.0f}", f"{r['memory']:,.0f}",
         f"{r['difference']:.1e}"]
        for r in runs
    ]  # fmt: skip
    write_report(options.out, "Label query", "label_query.py", markdown_table(header, table), {"runs": runs})


def run_job(length: int, n_labels: int, rounds: int) -> dict[str, Any]:
    """Measure one size."""
    import numpy as np
    import torch

    from mlclf import LabelQueryOptions, LlmOptions
    from mlclf.backbones.llm import LlmBackbone
    from mlclf.heads.label_branches import LabelBranches
    from mlclf.heads.label_query import LabelQueryHead
    from mlclf.heads.label_query_reading import read_batched
    from mlclf.interfaces import LabelStatistics, LoadRequest
    from mlclf.testing import tiny_texts
    from mlclf.testing.decoders import random_llama

    torch.set_num_threads(1)
    words = sorted({word for text in tiny_texts(200) for word in text.split()})
    names = tuple(" ".join(pair) for pair in itertools.islice(itertools.permutations(words, 2), n_labels))
    with tempfile.TemporaryDirectory() as folder:
        backbone = LlmBackbone(LlmOptions(model=str(random_llama(folder, **SHAPE)), max_length=length))
        backbone.load(LoadRequest())
    head = LabelQueryHead(LabelQueryOptions())
    counts = np.full(n_labels, 10)
    head.bind(backbone, LabelStatistics(names, positives=counts, known=2 * counts))
    batch = backbone.collate(backbone.encode([" ".join(tiny_texts(length))]), np.arange(1))
    backbone.eval(), head.eval()
    sample = LabelBranches(head.branches.rows[:SAMPLE])
    with torch.no_grad():
        before = peak_memory()
        packed = head.features(backbone, batch).tokens
        memory = peak_memory() - before
        together = best(lambda: head.features(backbone, batch), rounds)
        alone = best(lambda: read_batched(backbone, batch, sample, 0, "last"), rounds)
        expected = read_batched(backbone, batch, sample, 0, "last")
    return {
        "length": batch.input_ids.shape[1],
        "n_labels": n_labels,
        "label_tokens": len(head.branches.ids),
        "weights": sum(p.numel() for p in backbone.model.parameters()),
        "together": together,
        "alone": alone * n_labels / len(sample.rows),
        "memory": memory,
        "difference": float((packed[:, : len(sample.rows)] - expected).abs().max()),
    }


def best(call: Callable[[], Any], rounds: int) -> float:
    """Return the least processor time of several calls, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
