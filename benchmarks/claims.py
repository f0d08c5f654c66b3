"""What is claimed of parameter-efficient fine-tuning, measured: parameters, time, memory, and why LoRA seemed to fail.

    python benchmarks/claims.py --data GOEMOTIONS --seeds 3 --out docs/benchmarks

Three tables. *Cost*: strategies against full fine-tuning on the same rows, epochs and batches; every share has full
fine-tuning's figure as its denominator. *Upper*: LoRA above constant layers alone, for more rows, among which
the fixed cost of a fit counts less. Seconds are processor seconds of the whole fit on one thread (loading,
tokenising, computing constant layers, training; without validation), which other work on the machine disturbs least.
State is weights, gradients and both of Adam's moments together, counted on the
fitted model's tensors. *Repair*: LoRA with the settings of articles that report failure on multi-label data (one rate
of 5e-5 for everything, rank 8 on queries and values, threshold 0.5), and what each repair is worth on top of the one
before. Contenders run in turn, seed by seed, each in a process of its own; scores are on the test split, thresholds
from dev. ``--keep FOLDER`` lets an interrupted command go on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table, peak_memory, read_split, run_kept, spread, write_report
from quality import figures

RATES = {"training__learning_rate": 5e-5, "training__head_learning_rate": 5e-5}
ARTICLE = {"strategy": "lora", "strategy__r": 8, "strategy__targets": "qv", "head__prior_bias": False, **RATES}
HEAD = {"training__head_learning_rate": 5e-3}
LORA = {"training__learning_rate": 1e-3}

COST: dict[str, dict[str, Any]] = {
    "full": {"strategy": "full"},
    "LoRA, all linear layers": {"strategy": "lora"},
    "LoRA, queries and values, r 8": {"strategy": "lora", "strategy__r": 8, "strategy__targets": "qv"},
    "LoRA, upper 3 of 6 layers": {"strategy": "lora", "strategy__layers": 3},
    "LoRA, upper 2 of 6 layers": {"strategy": "lora", "strategy__layers": 2},
    "QLoRA, nf4 base": {"strategy": "qlora"},
    "adapter, Pfeiffer": {"strategy": "adapter", "strategy__kind": "pfeiffer"},
    "adapter, Houlsby": {"strategy": "adapter", "strategy__kind": "houlsby"},
    "prefix": {"strategy": "prefix"},
    "P-Tuning v2": {"strategy": "p-tuning-v2"},
}
UPPER = {name: COST[name] for name in ("full", "LoRA, upper 3 of 6 layers", "LoRA, upper 2 of 6 layers")}
REPAIR: dict[str, dict[str, Any]] = {
    "LoRA as in the articles": ARTICLE,
    "+ head rate 5e-3": {**ARTICLE, **HEAD},
    "+ LoRA rate 1e-3": {**ARTICLE, **HEAD, **LORA},
    "+ output bias at the label priors": {**ARTICLE, **HEAD, **LORA, "head__prior_bias": True},
    "+ all linear layers, r 16 (our defaults)": {"strategy": "lora"},
    "full, one rate of 5e-5": {"strategy": "full", "head__prior_bias": False, **RATES},
    "full, our defaults": {"strategy": "full"},
}
FIGURES = ("micro_f1", "macro_f1", "mean_average_precision")
TABLES = {"cost": COST, "upper": UPPER, "repair": REPAIR}


def main() -> None:
    """Run the contenders in turn and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--score-rows", type=int, default=None, help="so many rows of dev and test give F1")
    parser.add_argument("--tables", nargs="*", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--keep", type=Path, help="folder of finished runs; those found there are not repeated")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--job", type=json.loads, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(run_job(options.job)))
        return
    for table in options.tables:
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES[table]}
        for seed in range(options.seeds):
            for name, parameters in TABLES[table].items():
                job = {
                    "seed": seed, "data": str(options.data), "rows": options.rows, "epochs": options.epochs,
                    "score_rows": options.score_rows, "parameters": parameters,
                }  # fmt: skip
                results[name].append(run_kept(__file__, job, f"claims-{seed}", options.keep, threads=1))
                print(name, json.dumps(results[name][-1]), file=sys.stderr, flush=True)
        report = report_repair if table == "repair" else report_cost
        report(options, results, f"Claims: {table}")


def report_cost(options: argparse.Namespace, results: dict[str, list[dict[str, Any]]], title: str) -> None:
    """Print parameters, time and memory as shares of full fine-tuning's."""
    full = results["full"]
    seconds = float(np.median([run["seconds"] for run in full]))
    header = ["strategy", "micro-F1", "macro-F1", "mAP", "trainable in the backbone", "share of its weights",
              "saved of them", "processor seconds (median)", "less time", "state MiB", "less state"]  # fmt: skip
    rows = []
    for name, runs in results.items():
        took, state = float(np.median([run["seconds"] for run in runs])), runs[0]["state"]
        rows.append([
            name, *(spread([run[figure] for run in runs]) for figure in FIGURES),
            f"{runs[0]['trainable']:,}", f"{runs[0]['trainable'] / full[0]['weights']:.2%}",
            f"{runs[0]['saved'] / full[0]['weights']:.2%}", f"{took:.1f}", f"{1 - took / seconds:.0%}",
            f"{state / 2**20:.1f}", f"{1 - state / full[0]['state']:.1%}",
        ])  # fmt: skip
    write_report(options.out, title, "claims.py", markdown_table(header, rows), {"runs": results})


def report_repair(options: argparse.Namespace, results: dict[str, list[dict[str, Any]]], title: str) -> None:
    """Print what the articles' settings give and what each repair adds."""
    header = ["settings", "micro-F1 at 0.5", "micro-F1, one threshold", "macro-F1, one threshold", "micro-F1",
              "macro-F1", "mAP"]  # fmt: skip
    columns = ("micro_f1_half", "micro_f1_global", "macro_f1_global", *FIGURES)
    rows = [[name, *(spread([run[column] for run in runs]) for column in columns)] for name, runs in results.items()]
    write_report(options.out, title, "claims.py", markdown_table(header, rows), {"runs": results})


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Fit one contender and score it."""
    from mlclf import MultiLabelClassifier, TrainingOptions

    warnings.filterwarnings("ignore")
    job.pop("keep", None)
    folder = Path(job["data"])
    train = read_split(folder, "train", job["rows"])
    dev, test = (read_split(folder, split, job["score_rows"]) for split in ("dev", "test"))
    _import_libraries()
    start = time.process_time()
    clf = MultiLabelClassifier(
        "minilm:l6", validation=None, random_state=job["seed"], verbose=0,
        training=TrainingOptions(epochs=job["epochs"]),
        classes=sorted({label for labels in train[1] for label in labels}),
    )  # fmt: skip
    clf.set_params(**job["parameters"]).fit(*train)
    seconds = time.process_time() - start
    found = figures(clf.predict_proba(dev[0]), dev[1], clf.predict_proba(test[0]), test[1], clf.model_.labels)
    return {**job, "data": folder.name, **found, **sizes(clf.model_), "seconds": seconds, "memory": peak_memory(),
            "precision": clf.history_.precision, "cached_layers": clf.history_.cached_layers}  # fmt: skip


def _import_libraries() -> None:
    """Import what the contenders need, so that starting Python is part of no measurement."""
    import mlclf_minilm.backbone
    import peft
    import transformers

    assert all((mlclf_minilm, peft, transformers.BertModel))


def sizes(model: Any) -> dict[str, int]:
    """Return parameters and bytes of the backbone: what learns, what is saved of it, and the state of training."""
    backbone = model.network.backbone.model
    learning = [p for p in backbone.parameters() if p.requires_grad]
    held = sum(t.nbytes for t in [*backbone.parameters(), *backbone.buffers()])
    saved = model.strategy.state(model.network.backbone)
    return {
        "trainable": sum(p.numel() for p in learning),
        "weights": sum(p.numel() for p in backbone.parameters()),
        "saved": sum(t.numel() for t in saved.values()),
        # Gradients and Adam's two moments have the size and type of what learns.
        "state": held + 3 * sum(p.nbytes for p in learning),
    }


if __name__ == "__main__":
    main()
