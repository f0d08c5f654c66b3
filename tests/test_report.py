"""The report: what it prints, what it gives to machines, and what it warns of."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from scipy.sparse import csr_array

from mlclf.labels import LabelSpace, Targets
from mlclf.metrics import Policy, score
from mlclf.report import Report
from mlclf.thresholds import Thresholds

NAMES = ("anger", "joy", "surprise")
LABELS: list[list[str]] = [["joy"], ["anger", "joy"], [], ["surprise"]]
P = np.array([[0.1, 0.9, 0.2], [0.4, 0.8, 0.1], [0.1, 0.2, 0.1], [0.2, 0.1, 0.1]])


def small_report() -> Report:
    return score(P, LabelSpace(NAMES).encode(LABELS), Thresholds.per_label([0.3, 0.5, 0.6]), names=NAMES)


def many_labels(n_labels: int) -> Report:
    random = np.random.default_rng(0)
    support = np.linspace(50, 3, n_labels).astype(int)
    truth = np.zeros((60, n_labels), dtype=np.int8)
    for column, rows in enumerate(support):
        truth[random.permutation(60)[:rows], column] = 1
    p = np.clip(0.6 * truth + random.random(truth.shape) * 0.5, 0, 1)
    names = [f"label {column}" for column in range(n_labels)]
    return score(p, Targets(csr_array(truth)), Thresholds.fixed(n_labels), names=names)


def test_whole_text_of_a_small_report() -> None:
    assert str(small_report()).splitlines() == [
        "4 rows, 3 labels; thresholds: per-label",
        "",
        "label     support  predicted  threshold  precision  recall     F1  F1 at 0.5  avg. precision",
        "anger           1          1      0.300      1.000   1.000  1.000      0.000           1.000",
        "joy             2          2      0.500      1.000   1.000  1.000      1.000           1.000",
        "surprise        1          0      0.600      0.000   0.000  0.000      0.000           0.250",
        "",
        "                                        precision  recall     F1  |  at 0.5: precision  recall     F1",
        "micro average                               1.000   0.750  0.857  |              1.000   0.500  0.667",
        "macro average                               0.667   0.667  0.667  |              0.333   0.333  0.333",
        "weighted average                            0.750   0.750  0.750  |              0.500   0.500  0.500",
        "samples average                             0.750   0.750  0.750  |              0.750   0.625  0.667",
        "subset accuracy                                            0.750  |                             0.500",
        "Hamming loss                                               0.083  |                             0.167",
        "rows without predicted label (true: 1)                         2  |                                 2",
        "",
        "Ranking, without thresholds  mean avg. precision   LRAP    P@1    P@3    P@5  calibration error",
        "                                           0.750  0.833  0.667  0.444  0.444              0.158",
        "",
        "Policy: a label that is never predicted has precision 0, one that never applies has recall 0; both",
        "count in macro averages. A row without true labels counts 1 in sample averages if none is predicted",
        "for it, else 0; 1 in LRAP; and is left out of P@k. Labels that never apply are left out of mean",
        "average precision. Unknown cells are left out of everything.",
        "",
        "Warning: never predicted, though they apply to some row: surprise (1 of 3 labels).",
    ]


def test_headline_figures_are_those_at_the_tuned_thresholds() -> None:
    report = small_report()
    assert report.micro_f1 == report.tuned.micro.f1 == pytest.approx(6 / 7)
    assert report.at_half.micro.f1 == pytest.approx(2 / 3)
    assert report.macro_f1 == report.tuned.macro.f1
    assert report.weighted_f1 == report.tuned.weighted.f1
    assert report.samples_f1 == report.tuned.samples.f1
    assert report.subset_accuracy == 0.75
    assert report.never_predicted == ("surprise",)


def test_dictionary_is_strict_json_and_complete() -> None:
    report = small_report()
    saved = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert saved == report.to_dict()
    assert saved["micro_f1"] == report.micro_f1
    assert saved["at_half"]["macro"]["recall"] == report.at_half.macro.recall
    assert saved["precision_at"]["1"] == report.precision_at[1]
    assert saved["policy"] == {"zero_division": 0.0, "empty_rows": 1.0, "text": Policy().describe()}
    assert (saved["n_samples"], saved["n_labels"], saved["n_empty"], saved["rule"]) == (4, 3, 1, "per-label")
    assert saved["labels"][0] == {
        "label": "anger",
        "support": 1,
        "threshold": pytest.approx(0.3),
        "predicted": 1,
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
        "f1_at_half": 0.0,
        "average_precision": 1.0,
    }


def test_figures_that_are_not_defined_are_null_and_a_dash() -> None:
    report = score([[0.1, 0.9]], LabelSpace(("a", "b")).encode([["b"]]), Thresholds.fixed(2), names=("a", "b"))
    assert report.to_dict()["labels"][0]["average_precision"] is None
    assert re.search(r"^a .* -$", str(report), flags=re.MULTILINE)


def test_frame_has_a_row_for_each_label() -> None:
    frame = small_report().to_frame()
    assert frame.index.tolist() == list(NAMES)
    assert frame.loc["joy", "f1"] == 1
    assert frame["support"].tolist() == [1, 2, 1]
    assert frame.columns[-1] == "average_precision"


def test_up_to_fifty_labels_are_all_shown() -> None:
    text = str(many_labels(50))
    assert all(f"\nlabel {column} " in text for column in range(50))


def test_tables_of_many_labels_are_cut_and_say_so() -> None:
    report = many_labels(200)
    text = str(report)
    shown = re.findall(r"^label (\d+) ", text, flags=re.MULTILINE)
    assert len(shown) == 40
    assert [int(x) for x in shown[:30]] == list(range(30))
    assert "The 30 most frequent of 200 labels (all: to_frame()):" in text
    assert "The 10 worst of the others that apply to some row:" in text
    f1 = report.tuned.labels.f1
    assert max(f1[int(x)] for x in shown[30:]) <= min(f1[x] for x in range(30, 200) if str(x) not in shown)
    assert len(report.to_dict()["labels"]) == 200


def test_columns_are_aligned_whatever_the_names() -> None:
    names = ("a", "b" * 200, "line\nbreak\tand\x1b[31m colour")
    text = str(score(P, LabelSpace(NAMES).encode(LABELS), Thresholds.fixed(3), names=names))
    rows = text.splitlines()[2:6]
    assert len({len(row) for row in rows}) == 1
    assert "\x1b" not in text
    assert r"line\nbreak" in text


def test_names_may_be_numbers_and_are_columns_by_default() -> None:
    report = score(P, LabelSpace(NAMES).encode(LABELS), Thresholds.fixed(3))
    assert report.names == (0, 1, 2)
    assert report.to_dict()["labels"][1]["label"] == 1


def test_it_warns_when_nothing_is_predicted() -> None:
    text = str(score(P, LabelSpace(NAMES).encode(LABELS), Thresholds.fixed(3, 0.95)))
    assert "Warning: no label is predicted for any row." in text


def test_it_tells_of_unknown_cells_and_dropped_labels() -> None:
    space = LabelSpace(("a", "b"))
    state = space.encode(np.array([[1, -1], [0, 1]]))
    assert "Left out: 1 unknown cells." in str(score([[0.9, 0.1], [0.1, 0.9]], state, Thresholds.fixed(2)))
    with pytest.warns(UserWarning, match="not known"):
        targets = space.encode([["a", "x"], ["b"]], unknown_labels="warn")
    assert "Missed: 1 true labels that the model does not know" in str(
        score([[0.9, 0.1], [0.1, 0.9]], targets, Thresholds.fixed(2))
    )


def test_heading_names_rule_and_limit() -> None:
    targets = LabelSpace(NAMES).encode(LABELS)
    assert str(score(P, targets, Thresholds.top(2))).startswith(
        "4 rows, 3 labels; thresholds: top-k, at most 2 labels a row\n"
    )


def test_policy_is_printed_as_given() -> None:
    report = score(P, LabelSpace(NAMES).encode(LABELS), Thresholds.fixed(3), policy=Policy(1.0, 0.0))
    text = " ".join(str(report).split())
    assert "never predicted has precision 1" in text
    assert "counts 0 in sample averages" in text
