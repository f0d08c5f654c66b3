"""Time and memory of LoRA and QLoRA against full fine-tuning on an LLM-sized random model.

    python benchmarks/gpu_claims.py --out docs/benchmarks                          # needs CUDA
    python benchmarks/gpu_claims.py --shape tiny --device cpu --rows 64            # the same steps on the processor

The weights are random, as cost does not depend on them; nothing is said of quality. Contenders run in turn, each in a
process of its own. State is weights, gradients and both of Adam's moments, counted on the fitted model's tensors; peak
is what the device held at most. Seconds are those of the whole fit without the loading of libraries. Every share has
full fine-tuning's figure as its denominator.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from claims import sizes
from common import kept, markdown_table, peak_memory, write_report
from forked import run_forked
from gpu_export import device_name, mixed_texts

# Llama's proportions: hidden size, width of the feed-forward layer, layers, heads, heads of keys and values.
SHAPES = {"tiny": (64, 128, 4, 4, 2), "300m": (1024, 2816, 16, 16, 4), "1b": (2048, 5632, 22, 32, 4)}
CONTENDERS: dict[str, dict[str, Any]] = {
    "full, float32": {"strategy": "full"},
    "LoRA, float32 base": {"strategy": "lora"},
    "LoRA, bfloat16 base": {"strategy": "lora", "backbone__dtype": "bfloat16"},
    "LoRA, bfloat16 base, upper quarter": {"strategy": "lora", "backbone__dtype": "bfloat16", "upper": 4},
    "QLoRA, nf4 base": {"strategy": "qlora"},
}


def main() -> None:
    """Write the model, run the contenders in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="1b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--keep", type=Path, help="folder for the results of finished runs")
    parser.add_argument("--models", type=Path, help="folder for the model, which stays there; give it with --keep")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    check_device(options.device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.models or Path(temporary)) / f"claims-{options.shape}"
        write_model(options.shape, folder)
        common = {"folder": str(folder), "device": options.device, "rows": options.rows, "epochs": options.epochs,
                  "batch_size": options.batch_size, "layers": SHAPES[options.shape][2]}  # fmt: skip
        runs = {name: kept(partial(run_forked, run_job), {**common, "parameters": found}, f"gpu_claims-{number}",
                           options.keep)
                for number, (name, found) in enumerate(CONTENDERS.items())}  # fmt: skip
    report(options, runs)


def check_device(device: str) -> None:
    """Stop where there is no GPU, before a model is written."""
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device. Run with --device cpu --shape tiny for a dry run.")


def write_model(shape: str, folder: Path) -> None:
    """Write a Llama-shaped model with random weights, if it is not there."""
    if (folder / "tokenizer.json").is_file():
        return
    from mlclf.testing import random_llama

    hidden, feed_forward, layers, heads, kv_heads = SHAPES[shape]
    random_llama(folder, hidden=hidden, feed_forward=feed_forward, layers=layers, heads=heads, kv_heads=kv_heads)


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Fit one contender."""
    import torch

    from mlclf import LlmOptions, MultiLabelClassifier, TrainingOptions
    from mlclf.datasets import make_feedback

    warnings.filterwarnings("ignore")
    labels = make_feedback(job["rows"], random_state=0).labels
    texts = mixed_texts(job["rows"])
    parameters = dict(job["parameters"])
    if quarter := parameters.pop("upper", None):
        parameters["strategy__layers"] = max(1, job["layers"] // quarter)
    clf = MultiLabelClassifier(
        LlmOptions(model=job["folder"], max_length=512), validation=None, random_state=0, verbose=0,
        device=job["device"], training=TrainingOptions(epochs=job["epochs"], batch_size=job["batch_size"]),
    )  # fmt: skip
    start = time.perf_counter()
    clf.set_params(**parameters).fit(texts, labels)
    seconds = time.perf_counter() - start
    on_gpu = job["device"] != "cpu"
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_memory()
    tokens = len(clf.model_.dataset(texts).encoded.ids) * job["epochs"]
    return {**sizes(clf.model_), "seconds": seconds, "peak": peak, "tokens_per_second": tokens / seconds,
            "precision": clf.history_.precision, "cached_layers": clf.history_.cached_layers}  # fmt: skip


def report(options: argparse.Namespace, runs: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    full = runs["full, float32"]
    header = ["contender", "trainable", "share", "seconds", "less time", "tokens/s", "state MiB", "less state",
              "peak MiB", "less peak"]  # fmt: skip
    rows = [
        [name, f"{run['trainable']:,}", f"{run['trainable'] / full['weights']:.2%}", f"{run['seconds']:.1f}",
         f"{1 - run['seconds'] / full['seconds']:.0%}", f"{run['tokens_per_second']:,.0f}",
         f"{run['state'] / 2**20:,.0f}", f"{1 - run['state'] / full['state']:.1%}", f"{run['peak']:,.0f}",
         f"{1 - run['peak'] / full['peak']:.0%}"]
        for name, run in runs.items()
    ]  # fmt: skip
    weights = f"{np.round(full['weights'] / 1e6, 1)} million weights"
    title = "GPU claims" if options.device != "cpu" else "GPU claims dry run"
    table = f"On {device_name(options.device)}, {weights}:\n\n{markdown_table(header, rows)}"
    write_report(options.out, title, "gpu_claims.py", table, {"runs": runs})


if __name__ == "__main__":
    main()
