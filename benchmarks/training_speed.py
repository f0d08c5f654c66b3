"""Training speed: mlclf against transformers.Trainer (and Trainer + peft) on the same model, rows and steps.

    python benchmarks/training_speed.py --data GOEMOTIONS --epochs 2 --seeds 3 --out docs/benchmarks

Both train MiniLM with mean pooling, the same linear head started at the label priors, the same loss, batch size,
epochs, maximum length, learning rates and schedule. Contenders run in turn, each in a process of its own. Seconds are
those of the whole fit: loading the model, tokenising, training; without importing libraries and without evaluation.
F1 is on the test split with one threshold tuned on dev. The share of the matmul peak counts the products of the
encoder's layers for real tokens only, against the fastest product measured in the same process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table, matmul_peak, peak_memory, read_split, run_kept, spread, write_report

CONTENDERS = {
    "Trainer full fp32": {"loop": "trainer", "strategy": "full", "precision": "fp32"},
    "mlclf full fp32": {"loop": "mlclf", "strategy": "full", "precision": "fp32"},
    "mlclf full default": {"loop": "mlclf", "strategy": "full", "precision": "auto"},
    "Trainer + peft LoRA fp32": {"loop": "trainer", "strategy": "lora", "precision": "fp32"},
    "mlclf LoRA fp32": {"loop": "mlclf", "strategy": "lora", "precision": "fp32"},
    "mlclf LoRA default": {"loop": "mlclf", "strategy": "lora", "precision": "auto"},
}
BATCH_SIZE, MAX_LENGTH = 32, 128
# From texts to probabilities, and from nothing to facts about a fit, which are not timed.
Predict = Callable[[list[str]], Any]
Describe = Callable[[], dict[str, Any]]


def main() -> None:
    """Run the contenders in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--score-rows", type=int, default=2000, help="rows of dev and of test to measure F1 on")
    parser.add_argument("--keep", type=Path, help="folder of finished runs; those found there are not repeated")
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    parser.add_argument("--title", help="of the table and its files; for runs of some contenders")
    parser.add_argument("--quality", action="store_true", help="show F1 alone: for runs beside other work")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--job", type=json.loads, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(run_job(options.job)))
        return
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
    for seed in range(options.seeds):
        for name in options.only:
            job = {
                **CONTENDERS[name],
                "seed": seed,
                "data": str(options.data),
                "rows": options.rows,
                "epochs": options.epochs,
                "score_rows": options.score_rows,
            }
            results[name].append(run_kept(__file__, job, f"speed-{name.replace(' ', '_')}-{seed}", options.keep))
            print(name, json.dumps(results[name][-1]), file=sys.stderr, flush=True)
    report(options, results)


def report(options: argparse.Namespace, results: dict[str, list[dict[str, Any]]]) -> None:
    """Print the table of quality, and of cost where the machine was free for it."""
    columns = {"contender": list(results)}
    for figure, name in (("micro_f1", "micro-F1"), ("macro_f1", "macro-F1")):
        columns[name] = [spread([run[figure] for run in runs]) for runs in results.values()]
    title = options.title or ("Training quality" if options.quality else "Training speed")
    if not options.quality:
        columns |= costs(results)
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    write_report(options.out, title, "training_speed.py", markdown_table(list(columns), rows), {"runs": results})


def costs(results: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Return the columns of what a fit costs; the ratio is of the medians of seconds."""
    median = {name: float(np.median([run["seconds"] for run in runs])) for name, runs in results.items()}
    rivals = {name: "Trainer + peft LoRA fp32" if "LoRA" in name else "Trainer full fp32" for name in results}
    return {
        "seconds (median)": [f"{value:.1f}" for value in median.values()],
        "times as fast": [f"{median[r] / median[n]:.2f}" if r in median else "-" for n, r in rivals.items()],
        "peak MiB": [f"{np.mean([run['memory'] for run in runs]):.0f}" for runs in results.values()],
        "trainable parameters": [f"{runs[0]['trainable']:,}" for runs in results.values()],
        "share of matmul peak": [
            f"{np.mean([run['peak_share'] for run in runs]):.0%} of {runs[0]['arithmetic']}"
            for runs in results.values()
        ],
    }


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Fit one contender and score it."""
    job.pop("keep", None)
    warnings.filterwarnings("ignore")
    folder = Path(job["data"])
    train = read_split(folder, "train", job["rows"])
    run = fit_mlclf if job["loop"] == "mlclf" else fit_trainer
    import_libraries()
    start = time.perf_counter()
    predict, describe = run(job, train)
    seconds = time.perf_counter() - start
    memory = peak_memory()
    facts = describe()
    peak = matmul_peak(facts["arithmetic"])
    flops = facts.pop("flops")
    measured = {"seconds": seconds, "memory": memory, "peak_share": flops / seconds / peak, "peak_gflops": peak / 1e9}
    return {**job, "data": folder.name, **facts, **measured, **scores(predict, train[1], folder, job["score_rows"])}


def import_libraries() -> None:
    """Import what either contender needs, so that starting Python is part of no measurement."""
    import mlclf_minilm.backbone
    import peft
    import transformers

    import mlclf.classifier

    # transformers loads its parts on first use.
    for part in (transformers.Trainer, transformers.AutoModel, transformers.BertModel, peft, mlclf, mlclf_minilm):
        assert part is not None


def scores(predict: Any, known: list[list[str]], folder: Path, limit: int) -> dict[str, float]:
    """Score rows of the test split, for the labels of the training rows, with one threshold tuned on dev."""
    from mlclf.labels import LabelSpace
    from mlclf.metrics import score
    from mlclf.thresholds import tune

    (dev_x, dev_y), (test_x, test_y) = read_split(folder, "dev", limit), read_split(folder, "test", limit)
    labels = LabelSpace.infer(known)
    dev, test = (labels.encode(rows, unknown_labels="warn") for rows in (dev_y, test_y))
    found = score(predict(test_x), test, tune("global", predict(dev_x), dev))
    return {"micro_f1": found.micro_f1, "macro_f1": found.macro_f1}


def layer_flops(model: Any, tokens: int, epochs: int, *, weights_learn: bool) -> float:
    """Return the products of the encoder's linear layers: forward, input gradient and, in full, weight gradient."""
    import torch

    cells = sum(
        m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m.weight.numel() > 50_000
    )
    return 2.0 * cells * tokens * epochs * (3 if weights_learn else 2)


def fit_mlclf(job: dict[str, Any], train: Any) -> tuple[Predict, Describe]:
    """Fit with mlclf, validation off, as for the Trainer; return how to predict and what to tell of the fit."""
    from mlclf import MultiLabelClassifier, TrainingOptions

    clf = MultiLabelClassifier(
        "minilm:l6", job["strategy"], random_state=job["seed"], validation=None, verbose=0,
        training=TrainingOptions(epochs=job["epochs"], batch_size=BATCH_SIZE, precision=job["precision"]),
    )  # fmt: skip
    clf.set_params(backbone__max_length=MAX_LENGTH).fit(*train)

    def describe() -> dict[str, Any]:
        model, learns = clf.model_, job["strategy"] == "full"
        tokens = len(model.dataset(train[0]).encoded.ids)
        flops = layer_flops(model.network.backbone.model, tokens, job["epochs"], weights_learn=learns)
        return {"trainable": clf.history_.n_trainable, "flops": flops, "arithmetic": clf.history_.precision}

    return clf.predict_proba, describe


def fit_trainer(job: dict[str, Any], train: Any) -> tuple[Predict, Describe]:
    """Fit with transformers.Trainer, and peft for LoRA; return what :func:`fit_mlclf` returns."""
    import tempfile

    import torch
    from mlclf_minilm.backbone import MiniLm, MiniLmOptions
    from transformers import (
        AutoModel,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from mlclf.labels import LabelSpace

    set_seed(job["seed"])
    folder = str(MiniLm(MiniLmOptions()).locate()[0])
    labels = LabelSpace.infer(train[1])
    y = labels.encode(train[1]).indicator.toarray().astype(np.float32)

    class Classifier(torch.nn.Module):
        """Encoder, mean pooling, linear head, binary cross-entropy."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False)
            self.head = torch.nn.Linear(self.encoder.config.hidden_size, y.shape[1])
            torch.nn.init.normal_(self.head.weight, std=0.02)
            prior = (y.sum(0) + 0.5) / (len(y) + 1)
            self.head.bias.data = torch.from_numpy(np.log(prior / (1 - prior)).astype(np.float32))

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None, labels: Any = None) -> Any:
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            logits = self.head(torch.nn.functional.dropout((states * mask).sum(1) / mask.sum(1), 0.1, self.training))
            loss = None if labels is None else torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
            return {"loss": loss, "logits": logits}

    model = Classifier()
    rates = {"full": (5e-5, 5e-3), "lora": (1e-3, 5e-3)}[job["strategy"]]
    if job["strategy"] == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
        model.encoder = get_peft_model(model.encoder, config)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(train[0], truncation=True, max_length=MAX_LENGTH)
    rows = [{"input_ids": i, "attention_mask": m, "labels": t}
            for i, m, t in zip(encoded["input_ids"], encoded["attention_mask"], y, strict=True)]  # fmt: skip
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out, per_device_train_batch_size=BATCH_SIZE, num_train_epochs=job["epochs"], seed=job["seed"],
            learning_rate=rates[0], warmup_steps=0.1, weight_decay=0.01, save_strategy="no", report_to=[],
            disable_tqdm=True, logging_strategy="no", use_cpu=True, remove_unused_columns=False, label_names=["labels"],
        )  # fmt: skip
        kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments)
        groups = [
            {"params": [p for p in model.encoder.parameters() if p.requires_grad], "lr": rates[0]},
            {"params": list(model.head.parameters()), "lr": rates[1]},
        ]
        trainer = Trainer(
            model, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer),
            optimizers=(kind(groups, **settings, weight_decay=0.01), None),
        )  # fmt: skip
        trainer.train()

    @torch.no_grad()
    def predict(texts: list[str]) -> Any:
        model.eval()
        out = np.zeros((len(texts), y.shape[1]), dtype=np.float32)
        by_length = np.argsort([len(text) for text in texts])
        for start in range(0, len(texts), 128):
            rows = by_length[start : start + 128]
            batch = tokenizer([texts[row] for row in rows], truncation=True, max_length=MAX_LENGTH, padding=True,
                              return_tensors="pt", return_token_type_ids=False)  # fmt: skip
            out[rows] = torch.sigmoid(model(**batch)["logits"]).numpy()
        return out

    def describe() -> dict[str, Any]:
        tokens = sum(len(ids) for ids in encoded["input_ids"])
        base = [m for n, m in model.encoder.named_modules() if "lora" not in n]
        holder = torch.nn.ModuleList(m for m in base if isinstance(m, torch.nn.Linear))
        flops = layer_flops(holder, tokens, job["epochs"], weights_learn=job["strategy"] == "full")
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return {"trainable": trainable, "flops": flops, "arithmetic": "fp32"}

    return predict, describe


if __name__ == "__main__":
    main()
