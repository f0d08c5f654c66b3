"""ONNX on a GPU: parity with torch on the same GPU in float32 and float16, and throughput against it.

    python benchmarks/gpu_export.py --out docs/benchmarks         # needs CUDA and onnxruntime-gpu
    python benchmarks/gpu_export.py --cpu --texts 64              # the same steps on the processor

A MiniLM classifier is fitted on made texts for a moment, exported in each precision, and run by torch and by
onnxruntime on the same texts of mixed length, in turn. "alone" is one text a call, "mixed" all texts in batches
sorted by length, as both do by themselves. Seconds are the median over the rounds, after a warm-up round. Largest and
mean change are of probabilities against torch in float32 without TF32.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table, write_report

ALONE = 32


def main() -> None:
    """Fit, export, compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="minilm:l6", help="a component name, or with --model its model")
    parser.add_argument("--model", default=None, help="model id or folder for the backbone bert")
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="dry run on the processor")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    device = "cpu" if options.cpu else "cuda"
    check_device(device)
    classifier, texts = fitted(options, device)
    with tempfile.TemporaryDirectory() as folder:
        contenders = make_contenders(classifier, device, Path(folder))
        results = {name: measure(predict, texts, options.rounds) for name, predict in contenders.items()}
    report(options, device, results, len(texts))


def check_device(device: str) -> None:
    """Stop where a GPU or the GPU build of onnxruntime is missing, before anything is fitted."""
    import onnxruntime
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device. Run with --cpu for a dry run.")
    if device == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        sys.exit("onnxruntime was built without CUDA: pip install 'mlclf[onnx-gpu]'.")


def fitted(options: argparse.Namespace, device: str) -> tuple[Any, list[str]]:
    """Return a classifier that was fitted for a moment, and the texts to run."""
    import torch

    from mlclf import BertOptions, MultiLabelClassifier, TrainingOptions
    from mlclf.datasets import make_feedback

    torch.backends.cuda.matmul.allow_tf32 = False
    rows = make_feedback(200, random_state=0)
    backbone = options.backbone if options.model is None else BertOptions(model=options.model)
    classifier = MultiLabelClassifier(
        backbone, "lora", training=TrainingOptions(epochs=1), device=device, random_state=0, verbose=0
    )  # fmt: skip
    return classifier.fit(rows.texts, rows.labels), mixed_texts(options.texts)


def mixed_texts(n: int) -> list[str]:
    """Return texts of 1 to about 400 words, short ones being the most frequent."""
    from mlclf.datasets import make_feedback

    pool = make_feedback(n, random_state=1).texts
    generator = np.random.default_rng(0)
    parts = np.minimum(generator.geometric(0.25, size=n), 20)
    return [" ".join(pool[(row + step) % n] for step in range(count)) for row, count in enumerate(parts)]


def make_contenders(classifier: Any, device: str, folder: Path) -> dict[str, Callable[[list[str]], Any]]:
    """Return what predicts probabilities, by name; the first one is the reference."""
    from mlclf.inference import dense_probabilities
    from mlclf.onnx import OnnxClassifier

    model, other = classifier.model_, "fp16" if device == "cuda" else "bf16"

    def half(texts: list[str]) -> Any:
        return dense_probabilities(model.network, model.dataset(texts), classifier.n_labels_, model.device, other)

    found: dict[str, Callable[[list[str]], Any]] = {"torch fp32": classifier.predict_proba, f"torch {other}": half}
    for precision in ("fp32", "fp16", "int8"):
        print(classifier.export_onnx(folder / precision, precision=precision), file=sys.stderr, flush=True)
        runtime = OnnxClassifier(folder / precision, device)
        found[f"{runtime.provider_.removesuffix('ExecutionProvider')} {precision}"] = runtime.predict_proba
    return found


def measure(predict: Callable[[list[str]], Any], texts: list[str], rounds: int) -> dict[str, Any]:
    """Return probabilities and median seconds for all texts and for one text."""
    probabilities = predict(texts)
    for text in texts[:ALONE]:
        predict([text])
    mixed, alone = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        predict(texts)
        mixed.append(time.perf_counter() - start)
        start = time.perf_counter()
        for text in texts[:ALONE]:
            predict([text])
        alone.append((time.perf_counter() - start) / min(ALONE, len(texts)))
    return {
        "probabilities": probabilities,
        "mixed": statistics.median(mixed),
        "alone": statistics.median(alone),
    }


def report(options: argparse.Namespace, device: str, results: dict[str, dict[str, Any]], n_texts: int) -> None:
    """Print the table."""
    reference = results["torch fp32"]
    header = ["contender", "texts/s, mixed", "times torch fp32", "ms a text, alone", "largest change", "mean change",
              "sides of 0.5 changed"]  # fmt: skip
    rows, plain = [], {}
    for name, result in results.items():
        change = np.abs(result["probabilities"] - reference["probabilities"])
        sides = (result["probabilities"] >= 0.5) != (reference["probabilities"] >= 0.5)
        plain[name] = {
            "texts_per_second": n_texts / result["mixed"],
            "ms_alone": 1000 * result["alone"],
            "max_change": float(change.max()),
            "mean_change": float(change.mean()),
            "changed": float(sides.mean()),
        }
        rows.append([
            name, f"{n_texts / result['mixed']:,.0f}", f"{reference['mixed'] / result['mixed']:.2f}",
            f"{1000 * result['alone']:.2f}", f"{change.max():.1e}", f"{change.mean():.1e}", f"{sides.mean():.2%}",
        ])  # fmt: skip
    title = "GPU export" if device == "cuda" else "GPU export dry run"
    facts = {"device": device_name(device), "texts": n_texts, "contenders": plain}
    table = f"On {device_name(device)}:\n\n{markdown_table(header, rows)}"
    write_report(options.out, title, "gpu_export.py", table, facts)


def device_name(device: str) -> str:
    """Return the name of the GPU, with the version of CUDA, or say that there is none."""
    import torch

    if device == "cpu":
        return "the processor (dry run)"
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


if __name__ == "__main__":
    main()
