"""What a model forgets while it learns from new rows, by how many of the earlier rows are replayed.

    python benchmarks/continual.py --data GOEMOTIONS --out docs/benchmarks

*Mix*: the same labels in another mix. Labels are divided in two groups of like frequency; nine tenths of the old rows
have labels of the first group only, nine tenths of the new rows of the second only. *Labels*: the old rows are labelled
with the first group alone, the new rows with the second alone, whose labels are added to the fitted model; what the
other group would say about a row is not known.

"Before" is the model fitted on the old rows; it then learns from half as many new ones with ``partial_fit`` and
nothing, 5, 20 or 50 % of the old rows replayed. "A model a task" leaves it as it is and fits a second LoRA on the new
rows. Everything else is the default. Scores are those of test rows that are chosen as the old and the new rows were.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown_table, read_split, run_kept, spread, write_report

SHARES = (0.0, 0.05, 0.2, 0.5)
SCENARIOS = {"mix": "same labels, another mix", "labels": "new labels"}
FIGURES = ("mean_average_precision", "micro_f1", "macro_f1")
MINORITY = 0.1


def main() -> None:
    """Run all jobs, one process each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=False)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000, help="old rows; new ones are half as many")
    parser.add_argument("--test-rows", type=int, default=1000, help="test rows of each kind, at most")
    parser.add_argument("--parallel", type=int, default=1, help="runs at once, each with its share of the cores")
    parser.add_argument("--keep", type=Path, help="folder of finished runs; those found there are not repeated")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--job", type=json.loads, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        print(json.dumps(run_job(options.job)))
        return
    with ThreadPoolExecutor(options.parallel) as pool:
        runs = list(pool.map(lambda job: finished(job, options), jobs(options)))
    report(options, runs)


def jobs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what is to be run, seed by seed."""
    common = {"data": str(options.data), "rows": options.rows, "test_rows": options.test_rows}
    return [{"scenario": name, "seed": seed, **common} for seed in range(options.seeds) for name in SCENARIOS]


def finished(job: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Run a job in a process of its own, or take its result from the folder of kept runs."""
    label = f"continual-{options.data.name}-{job['scenario']}-{job['seed']}"
    threads = max(1, len(os.sched_getaffinity(0)) // options.parallel)
    result = run_kept(__file__, job, label, options.keep, threads)
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def report(options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    """Print the table of all runs; the change of mAP is taken seed by seed."""
    header = ["new rows", "learned with", "mAP old", "change", "mAP new", "micro-F1 old", "micro-F1 new",
              "macro-F1 old", "macro-F1 new"]  # fmt: skip
    rows = []
    for scenario, title in SCENARIOS.items():
        of_seeds = [run["ways"] for run in runs if run["scenario"] == scenario]
        for way in of_seeds[0]:
            scores = [{**seed[way], "change": change(seed, way)} for seed in of_seeds]
            cells = [spread([s["old"][f] for s in scores]) + "|" + new_cell(scores, f) for f in FIGURES]
            ap_old, ap_new = cells[0].split("|")
            drift = spread([s["change"] for s in scores])
            f1 = [cell for pair in cells[1:] for cell in pair.split("|")]
            rows.append([title, way, ap_old, "" if way == "before" else drift, ap_new, *f1])
    write_report(options.out, "Continual", "continual.py", markdown_table(header, rows), {"runs": runs})


def change(ways: dict[str, Any], way: str) -> float:
    """Return what a way of learning did to mAP on old test rows."""
    return float(ways[way]["old"]["mean_average_precision"] - ways["before"]["old"]["mean_average_precision"])


def new_cell(scores: list[dict[str, Any]], figure: str) -> str:
    """Return the figure on new test rows; a model that lacks their labels has none."""
    return "" if scores[0]["new"] is None else spread([s["new"][figure] for s in scores])


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Fit on old rows, then learn from new ones in every way."""
    folder = Path(job["data"])
    data = SPLITS[job["scenario"]](read_split(folder, "train"), read_split(folder, "test"), job)
    base = classifier(job, data["classes"], replay=max(SHARES)).fit(*data["old"])
    ways = {"before": scores(base, data)}
    for share in SHARES:
        ways[f"{share:.0%} replayed" if share else "nothing replayed"] = scores(continued(base, data, share), data)
    if data["added"]:
        second = classifier(job, data["added"], replay=None).fit(*data["second"])
        new = score_of(second, *data["test_second"], data["added"])
        ways["a model a task"] = {"old": ways["before"]["old"], "new": new}
    return {"scenario": job["scenario"], "seed": job["seed"], "ways": ways}


def classifier(job: dict[str, Any], classes: list[str], replay: float | None) -> Any:
    """Return mlclf with its defaults."""
    from mlclf import MultiLabelClassifier

    return MultiLabelClassifier(
        backbone="minilm:l6", classes=classes, replay=replay, random_state=job["seed"], verbose=0
    )


def continued(base: Any, data: dict[str, Any], share: float) -> Any:
    """Return a copy of the fitted model that has learned from the new rows."""
    model = copy.deepcopy(base).set_params(replay=share)
    if data["added"]:
        model.add_labels(data["added"])
    return model.partial_fit(*data["new"])


def scores(model: Any, data: dict[str, Any]) -> dict[str, Any]:
    """Score old and new test rows, each on the labels that it is about."""
    lacks_new = set(data["test_new"][2]) - set(model.classes_.tolist())
    return {
        "old": score_of(model, *data["test_old"]),
        "new": None if lacks_new else score_of(model, *data["test_new"]),
    }


def score_of(model: Any, texts: list[str], rows: list[list[str]], names: list[str]) -> dict[str, float]:
    """Score some labels of a model, at its thresholds."""
    from mlclf import LabelSpace, Thresholds
    from mlclf.metrics import score

    columns = [model.classes_.tolist().index(name) for name in names]
    targets = LabelSpace(tuple(names)).encode([[name for name in row if name in names] for row in rows])
    probabilities = model.predict_proba(texts)[:, columns]
    found = score(probabilities, targets, Thresholds.per_label(model.thresholds_.values[columns]))
    return {figure: float(getattr(found, figure)) for figure in FIGURES}


def mix(train: Any, test: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Return rows of the same labels in two mixes."""
    groups, rng = label_groups(train[1]), np.random.default_rng(job["seed"])
    names = sorted(groups[0] + groups[1])

    def draw(rows: Any, n: int, many: np.ndarray, few: np.ndarray) -> Any:
        n_few = round(n * MINORITY)
        return pick(rows, np.concatenate([many[: n - n_few], few[:n_few]]))

    found: dict[str, Any] = {"classes": names, "added": []}
    sizes = {"": (train, job["rows"], job["rows"] // 2), "test_": (test, job["test_rows"], job["test_rows"])}
    for prefix, (rows, n_old, n_new) in sizes.items():
        only = [rng.permutation([i for i, row in enumerate(rows[1]) if row and set(row) <= set(g)]) for g in groups]
        found[f"{prefix}old"] = draw(rows, n_old, only[0], only[1])
        # The new rows come from behind, so that no row is both.
        found[f"{prefix}new"] = draw(rows, n_new, only[1][::-1], only[0][::-1])
    return {**found, **{key: (*found[key], names) for key in ("test_old", "test_new")}}


def labels(train: Any, test: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Return rows with the labels of the first group, and rows with those of the second, the others not known."""
    (first, second), rng = label_groups(train[1]), np.random.default_rng(job["seed"])

    def drawn(rows: Any, n: int, group: list[str], skip: set[int]) -> np.ndarray:
        fitting = [i for i, row in enumerate(rows[1]) if set(row) & set(group) and i not in skip]
        return rng.permutation(fitting)[:n]

    old = drawn(train, job["rows"], first, set())
    new = drawn(train, job["rows"] // 2, second, set(old.tolist()))
    texts, rows = pick(train, new)
    partly = [{**dict.fromkeys(first), **{name: name in row for name in second}} for row in rows]
    return {
        "classes": first,
        "added": second,
        "old": only_labels(pick(train, old), first),
        "new": (texts, partly),
        "second": only_labels((texts, rows), second),
        "test_old": (*pick(test, drawn(test, job["test_rows"], first, set())), first),
        "test_new": (*(picked := pick(test, drawn(test, job["test_rows"], second, set()))), second),
        "test_second": picked,
    }


SPLITS = {"mix": mix, "labels": labels}


def label_groups(rows: list[list[str]]) -> tuple[list[str], list[str]]:
    """Divide labels in two groups of like frequency: by falling frequency, every second one."""
    counts = Counter(name for row in rows for name in row)
    ordered = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return sorted(ordered[::2]), sorted(ordered[1::2])


def pick(rows: Any, numbers: np.ndarray) -> tuple[list[str], list[list[str]]]:
    """Return some rows."""
    return [rows[0][i] for i in numbers], [rows[1][i] for i in numbers]


def only_labels(rows: Any, names: list[str]) -> tuple[list[str], list[list[str]]]:
    """Return rows with some of their labels."""
    return rows[0], [[name for name in row if name in names] for row in rows[1]]


if __name__ == "__main__":
    main()
