"""The rows kept for replay: how many, which ones, and what a damaged file of them does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import toy_classifier, toy_rows

from mlclf import LabelSpace, MultiLabelClassifier, ReplayOptions
from mlclf.bundle.replay_file import read_replay, write_replay
from mlclf.exceptions import BundleDamagedError, OptionsError
from mlclf.files import sha256
from mlclf.replay import KeptRows, ReplayBuffer, as_replay_options, sample
from mlclf.rows import Rows
from mlclf.targets import Targets

N_LABELS = 5
LABELS = LabelSpace(("a", "b", "c", "d", "e"))
cells = st.lists(st.sampled_from([0, 0, 0, 1, -1]), min_size=N_LABELS, max_size=N_LABELS)
matrices = st.lists(cells, min_size=1, max_size=60).map(np.array)
shares = st.floats(0.01, 1)


def rows_of(matrix: np.ndarray, start: int = 0) -> Rows:
    texts = [f"text {start + i}" for i in range(len(matrix))]
    return Rows(texts, LABELS.encode(matrix), np.arange(1, len(matrix) + 1, dtype=np.float32))


def same(left: Rows, right: Rows) -> bool:
    numbers = np.arange(len(left))
    if list(left.texts) != list(right.texts) or not np.array_equal(left.weights, right.weights):
        return False
    for mine, theirs in zip(left.targets.dense(numbers), right.targets.dense(numbers), strict=True):
        whole = np.ones((len(left), left.targets.n_labels))
        if not np.array_equal(whole if mine is None else mine, whole if theirs is None else theirs):
            return False
    return True


@given(matrices, st.integers(0, 70), st.integers(0, 3))
def test_a_sample_has_the_size_asked_for_each_row_once_in_order(matrix: np.ndarray, n_rows: int, seed: int) -> None:
    rows = rows_of(matrix)
    found = sample(rows, n_rows, np.random.default_rng(seed))
    assert len(found) == min(n_rows, len(rows))
    numbers = np.array([int(text.split()[1]) for text in found.texts], dtype=np.int64)
    assert (np.diff(numbers) > 0).all()
    assert same(found, rows.take(numbers))


@given(matrices, st.integers(N_LABELS, 70), st.integers(0, 3))
def test_every_label_that_occurs_keeps_a_row(matrix: np.ndarray, n_rows: int, seed: int) -> None:
    rows = rows_of(matrix)
    found = sample(rows, n_rows, np.random.default_rng(seed))
    assert ((found.targets.positives > 0) == (rows.targets.positives > 0)).all()


@given(st.lists(matrices, min_size=1, max_size=5), shares, st.integers(1, 40))
def test_a_buffer_keeps_its_share_of_all_rows_seen(parts: list[np.ndarray], share: float, most: int) -> None:
    options, kept, seen = ReplayOptions(share=share, max_rows=most), KeptRows(Rows.none(N_LABELS)), 0
    for matrix in parts:
        kept = kept.with_new(rows_of(matrix, start=seen), options, np.random.default_rng(0))
        seen += len(matrix)
        assert kept.seen == seen
        assert len(kept.rows) <= min(most, int(np.ceil(share * seen)))
        # Rounding may cost a row of the old ones at every step, and does not add up: each step starts from all seen.
        assert len(kept.rows) >= min(most, share * seen) - len(parts)
        assert len(set(kept.rows.texts)) == len(kept.rows)


def test_old_and_new_rows_are_kept_equally_densely() -> None:
    options, kept = ReplayOptions(share=1, max_rows=100), KeptRows(Rows.none(N_LABELS))
    for number in range(10):
        matrix = np.eye(N_LABELS, dtype=int)[np.arange(100) % N_LABELS]
        kept = kept.with_new(rows_of(matrix, start=100 * number), options, np.random.default_rng(number))
    origins = np.bincount([int(text.split()[1]) // 100 for text in kept.rows.texts], minlength=10)
    assert len(kept.rows) == 100
    assert origins.min() >= 5
    assert origins.max() <= 15


def test_labels_are_kept_in_proportion() -> None:
    matrix = np.zeros((400, N_LABELS), dtype=int)
    matrix[:200, 0] = matrix[200:300, 1] = matrix[300:320, 2] = matrix[320:322, 3] = 1
    found = sample(rows_of(matrix), 80, np.random.default_rng(0))
    np.testing.assert_allclose(found.targets.positives, [40, 20, 4, 1, 0], atol=1)


@given(matrices, st.integers(1, 4))
def test_further_labels_of_kept_rows_are_not_known(matrix: np.ndarray, added: int) -> None:
    rows = rows_of(matrix)
    wider = rows.widened(N_LABELS + added)
    assert wider.targets.n_labels == N_LABELS + added
    assert (wider.targets.known_counts[N_LABELS:] == 0).all()
    np.testing.assert_array_equal(wider.targets.known_counts[:N_LABELS], rows.targets.known_counts)
    np.testing.assert_array_equal(wider.targets.positives[:N_LABELS], rows.targets.positives)


@given(matrices, matrices)
@settings(max_examples=40, deadline=None)
def test_a_written_buffer_is_read_as_it_was(training: np.ndarray, validation: np.ndarray) -> None:
    import tempfile

    texts = ["\u2028 line\nbreaks\r\n", '{"text": 1}', "</s> 🙂", ""]
    rows = rows_of(training)
    rows = Rows([texts[i % 4] for i in range(len(rows))], rows.targets, rows.weights)
    buffer = ReplayBuffer(KeptRows(rows, 900), KeptRows(rows_of(validation), 100))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "replay.jsonl")
        write_replay(path, buffer, LABELS)
        found = read_replay(path, LABELS)
    for part in ("training", "validation"):
        mine, theirs = getattr(buffer, part), getattr(found, part)
        assert mine.seen == theirs.seen
        assert same(mine.rows, theirs.rows)


HEADER = '{"format": 1, "seen": {"training": 2, "validation": 0}}'
ROW = '{"part": "training", "text": "x", "labels": ["a"], "unknown": [], "weight": 1.0}'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{}"], "line 1"),
        ([HEADER.replace("1", "2", 1)], "line 1: format"),
        ([HEADER.replace(', "validation": 0', "")], "line 1: seen"),
        ([HEADER, "not json"], "line 2"),
        ([HEADER, ROW.replace('"a"', '"z"')], r"line 2: Label 'z' is not known"),
        ([HEADER, ROW.replace('"a"', "1.5")], r"line 2: labels"),
        ([HEADER, ROW.replace('"x"', "3")], "line 2: text"),
        ([HEADER, ROW.replace("1.0", "-1.0")], "line 2: weight"),
        ([HEADER, ROW.replace("1.0", "NaN")], "line 2"),
        ([HEADER, ROW.replace("training", "test")], "line 2: part"),
        ([HEADER, ROW.replace("}", ', "run": "x"}')], "line 2: run"),
        ([HEADER, ROW.replace("[]", '["a"]')], "both applies and is not known"),
        ([HEADER, ROW, ROW, ROW], "3 training rows are kept of 2 seen"),
    ],
)
def test_a_line_that_is_no_kept_row_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "replay.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(BundleDamagedError, match=message):
        read_replay(path, LABELS)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, "much", True, float("nan")])
def test_a_share_outside_its_range_is_refused(wrong: Any) -> None:
    with pytest.raises(OptionsError, match="replay must be the share"):
        as_replay_options(wrong)
    with pytest.raises(OptionsError, match="max_rows=0"):
        ReplayOptions(max_rows=0)


def test_texts_are_saved_only_on_request(tiny_bert: Path, tmp_path: Path) -> None:
    clf = toy_classifier(tiny_bert, "lora", epochs=1, validation=0.2, replay=0.2).fit(*toy_rows(64))
    kept = clf.model_.replay
    assert kept is not None
    assert (len(kept.training.rows), len(kept.validation.rows)) == (11, 3)
    clf.save(tmp_path / "plain")
    assert not list((tmp_path / "plain").rglob("*.jsonl"))
    assert MultiLabelClassifier.load(tmp_path / "plain").model_.replay is None
    clf.save(tmp_path / "whole", include_replay=True)
    found = MultiLabelClassifier.load(tmp_path / "whole").model_.replay
    assert found is not None
    assert same(found.training.rows, kept.training.rows)
    assert same(found.validation.rows, kept.validation.rows)


def test_an_altered_or_foreign_file_of_kept_rows_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    clf = toy_classifier(tiny_bert, "lora", epochs=1).fit(*toy_rows(64))
    clf.save(tmp_path / "m", include_replay=True)
    path = tmp_path / "m" / "replay.jsonl"
    content = path.read_text()
    path.write_text(content.replace("training", "validation", 1))
    with pytest.raises(BundleDamagedError, match="SHA-256"):
        MultiLabelClassifier.load(tmp_path / "m")
    clf.save(tmp_path / "m")
    path.write_text(content)
    with pytest.raises(BundleDamagedError, match="not listed"):
        MultiLabelClassifier.load(tmp_path / "m")


def test_a_file_that_lies_with_a_right_checksum_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    toy_classifier(tiny_bert, "lora", epochs=1).fit(*toy_rows(64)).save(tmp_path / "m", include_replay=True)
    path, manifest = tmp_path / "m" / "replay.jsonl", tmp_path / "m" / "manifest.json"
    path.write_text(path.read_text() + ROW + "\n")
    values = json.loads(manifest.read_text())
    values["files"]["replay.jsonl"] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    manifest.write_text(json.dumps(values))
    with pytest.raises(BundleDamagedError, match="Label 'a' is not known"):
        MultiLabelClassifier.load(tmp_path / "m")


def test_saving_rows_that_are_not_kept_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    clf = toy_classifier(tiny_bert, "lora", epochs=1, replay=None).fit(*toy_rows(32))
    with pytest.raises(OptionsError, match="keeps no rows"):
        clf.save(tmp_path / "m", include_replay=True)


def test_replay_is_a_parameter_like_others(tiny_bert: Path) -> None:
    from sklearn.base import clone

    clf = MultiLabelClassifier(replay=ReplayOptions(share=0.5))
    assert clf.get_params()["replay__share"] == 0.5
    assert clone(clf).replay is clf.replay
    assert MultiLabelClassifier(replay=0.1).set_params(replay__max_rows=5).replay == ReplayOptions(
        share=0.1, max_rows=5
    )
    with pytest.raises(OptionsError, match="share=2"):
        toy_classifier(tiny_bert, replay=ReplayOptions().replace(share=2)).fit(*toy_rows(16))


def test_unknown_cells_count_as_negative_for_the_sample_only() -> None:
    matrix = np.full((10, N_LABELS), -1)
    matrix[0, 0] = 1
    found = sample(rows_of(matrix), 3, np.random.default_rng(0))
    assert found.targets.positives.tolist() == [1, 0, 0, 0, 0]
    assert isinstance(found.targets, Targets)
    assert found.targets.unknown is not None
