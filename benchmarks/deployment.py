"""Deployment: an exported folder against torch and against transformers' text-classification pipeline.

    python benchmarks/deployment.py --data GOEMOTIONS --out docs/benchmarks
    python benchmarks/deployment.py --made --rows 64 --rounds 1           # a dry run on made texts

One MiniLM model is fitted, saved, exported in fp32 and int8, and written as a transformers checkpoint with the same
weights. Contenders run in turn, each in a process of its own that starts anew: seconds from the start of the process
to its first answer, rows a second on texts of mixed length, and memory (peak, and after the work). The pipeline runs
with batch_size=32, as its users do, and returns the scores of all labels. F1 is on the same rows with the model's
thresholds, and for int8 with those tuned again on the validation rows; the largest change is of a probability
against torch in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table, peak_memory, read_split, run_isolated, write_report

CONTENDERS = {
    "transformers pipeline": {"kind": "pipeline"},
    "torch fp32": {"kind": "torch", "precision": "fp32"},
    "torch bf16": {"kind": "torch", "precision": "bf16"},
    "mlclf.onnx fp32": {"kind": "onnx", "folder": "fp32"},
    "mlclf.onnx int8": {"kind": "onnx", "folder": "int8"},
}
BATCH_SIZE = 32


def main() -> None:
    """Prepare the models, run the contenders in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train, dev and test as {split}.jsonl.gz")
    parser.add_argument("--made", action="store_true", help="made texts instead of --data")
    parser.add_argument("--backbone", default="minilm:l6", help="one that is BERT, for the pipeline's sake")
    parser.add_argument("--model", default=None, help="model id or folder of a BERT, instead of --backbone")
    parser.add_argument("--rows", type=int, default=2000, help="texts to predict")
    parser.add_argument("--train-rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--job", type=json.loads, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(run_job(options.job)))
        return
    with tempfile.TemporaryDirectory() as folder:
        facts = prepare(options, Path(folder))
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
        for _ in range(options.rounds):
            for name, job in CONTENDERS.items():
                job = {**job, "models": folder, "threads": options.threads, "start": time.time()}
                results[name].append(run_isolated(__file__, job, threads=options.threads))
                print(name, json.dumps(results[name][-1]), file=sys.stderr, flush=True)
        quality = figures(Path(folder))
    report(options, results, quality, facts)


def prepare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Fit one model, and write it in every form, with the texts to predict."""
    from mlclf import BertOptions, MultiLabelClassifier, TrainingOptions

    train, dev, test = read_rows(options)
    dev = with_labels_of(train, dev)
    backbone = options.backbone if options.model is None else BertOptions(model=options.model)
    classifier = MultiLabelClassifier(
        backbone, "lora", training=TrainingOptions(epochs=1), device="cpu", random_state=0, verbose=0
    )  # fmt: skip
    classifier.fit(*train, validation_data=dev)
    classifier.save(folder / "saved", include_backbone=True)
    reports = {
        precision: classifier.export_onnx(folder / precision, precision=precision, validation_data=dev)
        for precision in ("fp32", "int8")
    }
    for exported in reports.values():
        print(exported, file=sys.stderr, flush=True)
    write_checkpoint(classifier, folder / "checkpoint")
    (folder / "rows.json").write_text(json.dumps(test))
    return {precision: exported.to_dict() for precision, exported in reports.items()}


def read_rows(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return texts and labels for training, validation and prediction."""
    if options.made:
        from mlclf.datasets import make_feedback

        parts = [make_feedback(n, random_state=seed) for seed, n in enumerate((options.train_rows, 200, options.rows))]
        return tuple((part.texts, part.labels) for part in parts)  # type: ignore[return-value]
    if options.data is None:
        sys.exit("Give --data a folder with train, dev and test, or --made for made texts.")
    train = read_split(options.data, "train", options.train_rows)
    return train, read_split(options.data, "dev", 1000), read_split(options.data, "test", options.rows)


def with_labels_of(train: Any, rows: Any) -> tuple[list[str], list[list[str]]]:
    """Return the rows that have no label unknown to training."""
    known = {label for row in train[1] for label in row}
    kept = [(text, row) for text, row in zip(*rows, strict=True) if known.issuperset(row)]
    return [text for text, _ in kept], [list(row) for _, row in kept]


def write_checkpoint(classifier: Any, folder: Path) -> None:
    """Write the merged model as a transformers checkpoint for sequence classification, mean pooling included."""
    from mlclf.onnx.graph import merged_copy

    network = merged_copy(classifier.model_.network, classifier.model_.strategy)
    model = make_bert_classifier(network.backbone.model.config, classifier.n_labels_)
    model.bert.load_state_dict(network.backbone.model.state_dict(), strict=False)
    model.classifier.load_state_dict(network.head.output.state_dict())
    model.config.id2label = {i: str(name) for i, name in enumerate(classifier.classes_)}
    model.config.problem_type = "multi_label_classification"
    model.save_pretrained(folder)
    tokenizer = network.backbone.encoder.tokenizer
    tokenizer.no_truncation()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": tokenizer.id_to_token(network.backbone.pad_id),
        "model_max_length": network.backbone.encoder.max_length,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def make_bert_classifier(config: Any, n_labels: int) -> Any:
    """Return BERT with mean pooling and a linear head, in the form that the pipeline takes."""
    import torch
    from transformers import BertModel, BertPreTrainedModel
    from transformers.modeling_outputs import SequenceClassifierOutput

    class BertMeanClassifier(BertPreTrainedModel):
        """What a user of transformers writes for a sentence-transformers encoder."""

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.bert = BertModel(config, add_pooling_layer=False)
            self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
            self.post_init()

        def forward(self, input_ids: Any, attention_mask: Any, **_: Any) -> Any:
            states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            return SequenceClassifierOutput(logits=self.classifier((states * weights).sum(1) / weights.sum(1)))

    config.num_labels = n_labels
    config._attn_implementation = "sdpa"
    return BertMeanClassifier(config).eval()


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Start one contender, ask for one answer, then for all."""
    folder = Path(job["models"])
    predict = {"pipeline": load_pipeline, "torch": load_torch, "onnx": load_onnx}[job["kind"]](job, folder)
    predict(["Where is my parcel?"])
    first = time.time() - job["start"]
    memory_ready = resident_memory()
    texts = json.loads((folder / "rows.json").read_text())[0]
    predict(texts[:64])
    start = time.perf_counter()
    probabilities = predict(texts)
    seconds = time.perf_counter() - start
    name = f"{job['kind']}-{job.get('folder', job.get('precision', ''))}.npy"
    np.save(folder / name, probabilities)
    return {
        "first_answer": first,
        "rows_per_second": len(texts) / seconds,
        "memory_ready": memory_ready,
        "memory_peak": peak_memory(),
        "memory_after": resident_memory(),
        "answers": name,
    }


def load_onnx(job: dict[str, Any], folder: Path) -> Any:
    """Return the prediction of an exported folder."""
    from mlclf.onnx import OnnxClassifier

    return OnnxClassifier(folder / job["folder"], "cpu", threads=job["threads"]).predict_proba


def load_torch(job: dict[str, Any], folder: Path) -> Any:
    """Return the prediction of the saved model in float32 or bfloat16."""
    import torch

    from mlclf import MultiLabelClassifier
    from mlclf.inference import dense_probabilities

    torch.set_num_threads(job["threads"])
    classifier = MultiLabelClassifier.load(folder / "saved", device="cpu")
    model, n_labels = classifier.model_, classifier.n_labels_
    return lambda texts: dense_probabilities(
        model.network, model.dataset(texts), n_labels, model.device, job["precision"]
    )


def load_pipeline(job: dict[str, Any], folder: Path) -> Any:
    """Return the prediction of transformers' pipeline over the checkpoint."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoTokenizer, TextClassificationPipeline, logging

    logging.set_verbosity(logging.CRITICAL)  # it lists the classes that it knows

    torch.set_num_threads(job["threads"])
    checkpoint = folder / "checkpoint"
    config = AutoConfig.from_pretrained(checkpoint)
    model = make_bert_classifier(config, config.num_labels)
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    order = {name: column for column, name in config.id2label.items()}

    def predict(texts: list[str]) -> Any:
        answers = pipeline(texts, batch_size=BATCH_SIZE, truncation=True, top_k=None, function_to_apply="sigmoid")
        out = np.zeros((len(texts), len(order)), dtype=np.float32)
        for row, answer in enumerate(answers):
            for entry in answer:
                out[row, order[entry["label"]]] = entry["score"]
        return out

    return predict


def resident_memory() -> float:
    """Return this process's resident memory now in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def figures(folder: Path) -> dict[str, dict[str, float]]:
    """Return F1 and the change of probabilities of every contender."""
    from mlclf.labels import LabelSpace
    from mlclf.metrics import score
    from mlclf.onnx import OnnxManifest

    texts, truth = json.loads((folder / "rows.json").read_text())
    manifest = OnnxManifest.read(folder / "fp32")
    labels = LabelSpace(manifest.labels)
    targets = labels.encode(truth, unknown_labels="warn", n_samples=len(texts))
    reference = np.load(folder / "torch-fp32.npy")
    found = {}
    for name, job in CONTENDERS.items():
        answers = np.load(folder / f"{job['kind']}-{job.get('folder', job.get('precision', ''))}.npy")
        own = OnnxManifest.read(folder / job["folder"]).thresholds if "folder" in job else manifest.thresholds
        report = score(answers, targets, own)
        found[name] = {
            "micro_f1": report.micro_f1,
            "macro_f1": report.macro_f1,
            "max_change": float(np.abs(answers - reference).max()),
        }
    return found


def report(
    options: argparse.Namespace,
    results: dict[str, list[dict[str, Any]]],
    quality: dict[str, dict[str, float]],
    facts: dict[str, Any],
) -> None:
    """Print the table; figures are medians over the rounds, ratios are against the pipeline."""
    header = ["contender", "rows/s", "times pipeline", "s to first answer", "times as fast", "MiB ready", "MiB peak",
              "MiB after", "micro-F1", "macro-F1", "largest change"]  # fmt: skip
    middle = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "answers"}
        for name, runs in results.items()
    }
    base = middle["transformers pipeline"]
    rows = []
    for name, run in middle.items():
        rows.append([
            name, f"{run['rows_per_second']:.0f}", f"{run['rows_per_second'] / base['rows_per_second']:.2f}",
            f"{run['first_answer']:.2f}", f"{base['first_answer'] / run['first_answer']:.1f}",
            f"{run['memory_ready']:.0f}", f"{run['memory_peak']:.0f}", f"{run['memory_after']:.0f}",
            f"{quality[name]['micro_f1']:.3f}", f"{quality[name]['macro_f1']:.3f}",
            f"{quality[name]['max_change']:.1e}",
        ])  # fmt: skip
    write_report(
        options.out,
        "Deployment",
        "deployment.py",
        markdown_table(header, rows),
        {"runs": results, "quality": quality, "exports": facts, "threads": options.threads},
    )


if __name__ == "__main__":
    main()
