"""Virtual tokens from end to end: fitted, saved, resumed, searched over and exported."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_kit import EXAMPLES, fitted
from safetensors import safe_open
from sklearn.model_selection import GridSearchCV
from strategy_kit import folder_of
from toy import toy_classifier, toy_rows

from mlclf import (
    BertOptions,
    LlmOptions,
    MultiLabelClassifier,
    PrefixOptions,
    PromptTuningOptions,
    PTuningOptions,
    PTuningV2Options,
)
from mlclf.exceptions import TrainingInterrupted
from mlclf.onnx import OnnxClassifier
from mlclf.options import Options
from mlclf.training import loop

STRATEGIES = [
    PrefixOptions(n_tokens=4, hidden=16),
    PTuningV2Options(n_tokens=4),
    PTuningOptions(n_tokens=4, hidden=16),
    PTuningOptions(n_tokens=4, hidden=16, encoder="mlp"),
    PromptTuningOptions(n_tokens=4),
]
EVERY = pytest.mark.parametrize("strategy", STRATEGIES, ids=["prefix", "v2", "lstm", "mlp", "prompt"])
KINDS: dict[str, Any] = {"bert": BertOptions, "llama": LlmOptions}
ON_BOTH = pytest.mark.parametrize("architecture", KINDS)


def classifier(strategy: Options, architecture: str = "bert", **changes: Any) -> MultiLabelClassifier:
    """Return a classifier over a tiny encoder or decoder."""
    folder = folder_of(architecture)
    return toy_classifier(folder, strategy, backbone=KINDS[architecture](model=str(folder), max_length=32), **changes)


@EVERY
@ON_BOTH
def test_a_classifier_learns_is_saved_small_and_answers_the_same(
    strategy: Options, architecture: str, tmp_path: Path
) -> None:
    rows = toy_rows()
    clf = classifier(strategy, architecture, epochs=3).fit(*rows)
    losses = [evaluation.train_loss for evaluation in clf.history_.evaluations]
    assert losses[-1] < losses[0]
    clf.save(tmp_path / "model")
    with safe_open(tmp_path / "model" / "strategy.safetensors", "np") as file:
        kept = {name.rsplit(".", 1)[-1] for name in file.keys()}  # noqa: SIM118  # it is no dict
    assert kept in ({"key", "value"}, {"embeddings"})
    again = MultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(again.predict_proba(rows[0]), clf.predict_proba(rows[0]), atol=1e-6)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(EXAMPLES), clf.predict_proba(EXAMPLES))


@EVERY
def test_a_model_saved_with_its_backbone_is_read_and_saved_again(strategy: Options, tmp_path: Path) -> None:
    clf = classifier(strategy, epochs=1).fit(*toy_rows(32))
    clf.save(tmp_path / "first", include_backbone=True)
    again = MultiLabelClassifier.load(tmp_path / "first")
    again.save(tmp_path / "second", include_backbone=True)
    last = MultiLabelClassifier.load(tmp_path / "second")
    np.testing.assert_allclose(last.predict_proba(EXAMPLES), clf.predict_proba(EXAMPLES), atol=1e-6)


@pytest.mark.slow
@EVERY
@ON_BOTH
def test_an_exported_model_answers_the_same(strategy: Options, architecture: str, tmp_path: Path) -> None:
    clf = fitted(folder_of(architecture), strategy, KINDS[architecture])
    clf.export_onnx(tmp_path / "onnx")
    served = OnnxClassifier(tmp_path / "onnx")
    np.testing.assert_allclose(served.predict_proba(EXAMPLES), clf.predict_proba(EXAMPLES), atol=1e-5)


@pytest.mark.parametrize("strategy", [STRATEGIES[0], STRATEGIES[2]], ids=["prefix", "lstm"])
def test_an_interrupted_run_resumes_to_the_same_weights(
    strategy: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, folder = toy_rows(48), tmp_path / "checkpoint"
    whole = classifier(strategy).fit(*rows)

    class Guard:
        def __enter__(self) -> Guard:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        @property
        def received(self) -> int:
            return 2

    stopped = classifier(strategy, training={"checkpoint_dir": str(folder)})
    with monkeypatch.context() as patched:
        patched.setattr(loop, "InterruptGuard", Guard)
        with pytest.raises(TrainingInterrupted):
            stopped.fit(*rows)
    resumed = classifier(strategy, training={"checkpoint_dir": str(folder), "resume_from": str(folder)}).fit(*rows)
    np.testing.assert_array_equal(resumed.predict_proba(EXAMPLES), whole.predict_proba(EXAMPLES))


@pytest.mark.parametrize("strategy", ["prefix", "prompt-tuning"])
def test_the_number_of_virtual_tokens_can_be_searched_over(strategy: Any) -> None:
    search = GridSearchCV(
        classifier(strategy, epochs=1), {"strategy__n_tokens": [2, 5]}, scoring="f1_micro", cv=2, error_score="raise"
    )
    texts, labels = toy_rows(32)
    from mlclf import to_indicator

    search.fit(texts, to_indicator(labels).to_numpy())
    assert search.best_params_["strategy__n_tokens"] in (2, 5)
