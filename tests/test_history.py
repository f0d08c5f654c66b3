"""``History.plot``: losses and validation figures, with matplotlib where it is there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlclf.exceptions import InvalidInputError, MissingExtraError
from mlclf.training.history import Evaluation, History


def history(*, validation: bool = True) -> History:
    metrics = [{"loss": 0.4, "micro_f1": 0.5}, {"loss": 0.5, "micro_f1": 0.4}] if validation else [{}, {}]
    evaluations = [Evaluation(epoch + 1.0, 10, 0.6 - 0.1 * epoch, 1.0, metrics[epoch]) for epoch in range(2)]
    return History(evaluations, best=0 if validation else None)


def test_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mlclf\[plot\]'"):
        history().plot()


def test_losses_and_figures_stand_side_by_side_and_the_best_epoch_is_marked(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = history().plot()
    losses, scores = figure.axes
    assert [text.get_text() for text in losses.get_legend().get_texts()] == [
        "training loss", "validation loss", "kept: epoch 1",
    ]  # fmt: skip
    assert [text.get_text() for text in scores.get_legend().get_texts()] == ["micro f1", "kept: epoch 1"]
    assert list(losses.lines[0].get_ydata()) == [0.6, 0.5]
    figure.savefig(tmp_path / "history.png")
    assert (tmp_path / "history.png").stat().st_size > 1000


def test_without_validation_there_is_the_training_loss_alone() -> None:
    pytest.importorskip("matplotlib")
    (axes,) = history(validation=False).plot().axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training loss"]


def test_history_of_nothing_is_refused() -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(InvalidInputError, match="nothing to plot"):
        History().plot()
