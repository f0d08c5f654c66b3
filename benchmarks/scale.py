"""Scale: time and peak memory of a fit at growing numbers of rows and labels.

    python benchmarks/scale.py --out docs/benchmarks

The last row has 100,000 texts and 20,000 sparse labels: as a dense matrix of float32 its targets alone would take
7.5 GiB. A small random encoder keeps the run short; cost of labels and rows does not depend on its weights.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table, peak_memory, run_isolated, write_report

SIZES = ((12_500, 100), (25_000, 100), (50_000, 100), (100_000, 100), (100_000, 2_000), (100_000, 20_000))


def main() -> None:
    """Run all sizes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=json.loads, default=SIZES)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--job", type=json.loads, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(run_job(**options.job)))
        return
    runs = [run_isolated(__file__, {"rows": rows, "labels": labels}) for rows, labels in options.sizes]
    header = [
        "rows",
        "labels",
        "fit seconds",
        "predict (sparse) seconds",
        "top-10 seconds",
        "peak MiB",
        "dense targets MiB",
    ]
    table = [
        [f"{r['rows']:,}", f"{r['labels']:,}", f"{r['fit']:.0f}", f"{r['predict']:.0f}", f"{r['topk']:.0f}",
         f"{r['memory']:.0f}", f"{r['rows'] * r['labels'] * 4 / 2**20:.0f}"]
        for r in runs
    ]  # fmt: skip
    write_report(options.out, "Scale", "scale.py", markdown_table(header, table), {"runs": runs})


def run_job(rows: int, labels: int) -> dict[str, Any]:
    """Fit one size for one epoch."""
    import tempfile

    from scipy.sparse import csr_array

    from mlclf import BertOptions, MultiLabelClassifier, TrainingOptions
    from mlclf.testing import tiny_encoder, tiny_texts

    generator = np.random.default_rng(0)
    texts = tiny_texts(rows, seed=0)
    columns = generator.integers(0, labels, size=(rows, 3))
    indicator = csr_array(
        (np.ones(rows * 3, dtype=np.int8), (np.repeat(np.arange(rows), 3), columns.ravel())), (rows, labels)
    )
    indicator.data[:] = 1
    with tempfile.TemporaryDirectory() as folder:
        clf = MultiLabelClassifier(
            BertOptions(model=str(tiny_encoder("bert", folder))), "full", verbose=0, random_state=0,
            training=TrainingOptions(epochs=1, batch_size=256),
        )  # fmt: skip
        clf.fit(texts, indicator)
    took = {"fit": clf.history_.evaluations[-1].seconds}
    for name, call in (
        ("predict", lambda: clf.predict(texts[:20_000])),
        ("topk", lambda: clf.predict_topk(texts[:20_000], 10)),
    ):
        start = time.perf_counter()
        call()
        took[name] = time.perf_counter() - start
    return {"rows": rows, "labels": labels, **took, "memory": peak_memory()}


if __name__ == "__main__":
    main()
