"""Training: resumption, interruption, memory, early stopping, and the optimizer's parts."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import toy_classifier, toy_rows

from mlclf import TrainingOptions
from mlclf.batching import shuffled_batches, sorted_batches
from mlclf.exceptions import (
    BundleDamagedError,
    NonFiniteLossError,
    OptionsError,
    TrainingInterrupted,
    TrainingMemoryError,
)
from mlclf.interfaces import Batch
from mlclf.network import MultiLabelNetwork
from mlclf.training.optim import clip_gradients, learning_rates, schedule_factor
from mlclf.training.step import Stepper

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=300).map(np.array)


@given(lengths, st.integers(1, 40), st.integers(0, 5))
def test_shuffled_batches_hold_every_sample_once(lengths: np.ndarray, batch_size: int, seed: int) -> None:
    batches = shuffled_batches(lengths, batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size
    assert len(batches) == -(-len(lengths) // batch_size)


@given(lengths, st.integers(1, 40), st.integers(1, 500))
def test_sorted_batches_respect_both_bounds(lengths: np.ndarray, batch_size: int, max_tokens: int) -> None:
    batches = sorted_batches(lengths, batch_size, max_tokens)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) <= batch_size
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= max_tokens


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from(["linear", "cosine", "constant"]))
def test_the_schedule_stays_between_zero_and_the_peak(total: int, warmup: float, schedule: Any) -> None:
    options = TrainingOptions(warmup_ratio=warmup, schedule=schedule)
    factors = [schedule_factor(step, total, options) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = int(np.argmax(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_clipping_agrees_with_torch_and_counts_sparse_gradients() -> None:
    table = torch.nn.Embedding(10, 4, sparse=True)
    dense = torch.nn.Linear(4, 4)
    ids = torch.tensor([1, 1, 3])

    def backward() -> None:
        (dense(table(ids)) ** 2).sum().mul(50).backward()

    backward()
    clip_gradients([table.weight, *dense.parameters()], 1.0)
    sparse_result = [table.weight.grad.to_dense(), *(p.grad for p in dense.parameters())]
    table.sparse = False
    for parameter in (table.weight, *dense.parameters()):
        parameter.grad = None
    backward()
    torch.nn.utils.clip_grad_norm_([table.weight, *dense.parameters()], 1.0)
    for found, wanted in zip(sparse_result, [table.weight.grad, *(p.grad for p in dense.parameters())], strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_backbone_scales_the_strategies_own_rate_and_no_other() -> None:
    from mlclf.strategies.full import FullOptions, FullStrategy
    from mlclf.testing import TinyBackbone, TinyOptions

    class Eager(TinyBackbone):
        learning_rate_scale = 100.0

    backbone, own = Eager(TinyOptions()), FullStrategy(FullOptions())
    assert learning_rates(own, TrainingOptions(), backbone) == {"backbone": pytest.approx(5e-3), "head": 5e-3}
    assert learning_rates(own, TrainingOptions(learning_rate=1e-4), backbone)["backbone"] == 1e-4
    given = FullStrategy(FullOptions(learning_rate=2e-4))
    assert learning_rates(given, TrainingOptions(), backbone)["backbone"] == 2e-4
    assert learning_rates(own, TrainingOptions(), TinyBackbone(TinyOptions()))["backbone"] == 5e-5


def test_accumulated_batches_learn_as_one_large_batch(tiny_bert: Path) -> None:
    rows = toy_rows(64)
    probabilities = []
    for batch_size, accumulation in ((32, 1), (8, 4)):
        clf = toy_classifier(
            tiny_bert, epochs=1, training={"batch_size": batch_size, "gradient_accumulation": accumulation}
        )
        clf.set_params(backbone__dropout=0.0, head__dropout=0.0)
        clf.fit(*rows)
        probabilities.append(clf.predict_proba(rows[0]))
    # Other batches are drawn, so that only the number of steps and the scale of the result can agree.
    assert np.abs(probabilities[0] - probabilities[1]).max() < 0.05


class _Interrupter:
    """Sends a signal to this process after some steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, number: int) -> None:
        original, self.count = Stepper.step, 0

        def step(stepper: Stepper, batches: Any) -> float:
            self.count += 1
            if self.count == after:
                os.kill(os.getpid(), number)
            return original(stepper, batches)

        monkeypatch.setattr(Stepper, "step", step)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("strategy", ["full", "lora", "adapter"])
def test_an_interrupted_run_resumes_to_the_same_weights(
    tiny_bert: Path, tmp_path: Path, number: int, strategy: str
) -> None:
    rows, held_out = toy_rows(64), toy_rows(32, seed=9)
    whole = toy_classifier(tiny_bert, strategy, epochs=3).fit(*rows, validation_data=held_out)
    folder = str(tmp_path / "checkpoint")
    with pytest.MonkeyPatch.context() as monkeypatch:
        _Interrupter(monkeypatch, after=6, number=number)
        with pytest.raises(TrainingInterrupted, match="resume_from") as caught:
            toy_classifier(tiny_bert, strategy, epochs=3, training={"checkpoint_dir": folder}).fit(
                *rows, validation_data=held_out
            )
    assert caught.value.signal_number == number
    assert str(caught.value.checkpoint) == folder
    resumed = toy_classifier(tiny_bert, strategy, epochs=3, training={"resume_from": folder})
    resumed.fit(*rows, validation_data=held_out)
    np.testing.assert_array_equal(whole.predict_proba(held_out[0]), resumed.predict_proba(held_out[0]))
    np.testing.assert_array_equal(whole.thresholds_.values, resumed.thresholds_.values)
    for first, second in zip(whole.history_.evaluations, resumed.history_.evaluations, strict=True):
        assert (first.step, first.train_loss, first.metrics) == (second.step, second.train_loss, second.metrics)


def test_sparse_embedding_gradients_resume_to_the_same_weights(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlclf.training import optim

    monkeypatch.setattr(optim, "_SPARSE_TABLE", 1)
    rows, folder = toy_rows(64), str(tmp_path)
    whole = toy_classifier(tiny_bert, epochs=3).fit(*rows)
    with pytest.MonkeyPatch.context() as inner:
        _Interrupter(inner, after=6, number=signal.SIGTERM)
        with pytest.raises(TrainingInterrupted):
            toy_classifier(tiny_bert, epochs=3, training={"checkpoint_dir": folder}).fit(*rows)
    resumed = toy_classifier(tiny_bert, epochs=3, training={"resume_from": folder}).fit(*rows)
    np.testing.assert_array_equal(whole.predict_proba(rows[0]), resumed.predict_proba(rows[0]))


def test_interruption_keeps_an_earlier_fit_and_the_signal_handlers(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = toy_rows(32)
    clf = toy_classifier(tiny_bert, epochs=1).fit(*rows)
    before, handlers = clf.predict_proba(rows[0]), (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    _Interrupter(monkeypatch, after=1, number=signal.SIGINT)
    with pytest.raises(TrainingInterrupted, match="checkpoint_dir"):
        clf.fit(*toy_rows(32, seed=3))
    np.testing.assert_array_equal(clf.predict_proba(rows[0]), before)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_the_program_ignores_does_not_end_training(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    _Interrupter(monkeypatch, after=1, number=number)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        toy_classifier(tiny_bert, epochs=1).fit(*toy_rows(32))
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_finished_run_resumes_to_itself(tiny_bert: Path, tmp_path: Path) -> None:
    rows, folder = toy_rows(32), str(tmp_path)
    first = toy_classifier(tiny_bert, epochs=1, training={"checkpoint_dir": folder}).fit(*rows)
    again = toy_classifier(tiny_bert, epochs=1, training={"resume_from": folder}).fit(*rows)
    np.testing.assert_array_equal(first.predict_proba(rows[0]), again.predict_proba(rows[0]))


def test_a_checkpoint_of_other_data_or_options_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    rows, folder = toy_rows(32), str(tmp_path / "c")
    toy_classifier(tiny_bert, epochs=1, training={"checkpoint_dir": folder}).fit(*rows)
    with pytest.raises(OptionsError, match="data differ"):
        toy_classifier(tiny_bert, epochs=1, training={"resume_from": folder}).fit(*toy_rows(32, seed=1))
    with pytest.raises(OptionsError, match="training differ"):
        toy_classifier(tiny_bert, epochs=2, training={"resume_from": folder}).fit(*rows)


def test_an_absent_checkpoint_is_reported_before_anything_is_loaded(tmp_path: Path) -> None:
    absent = str(tmp_path / "none")
    with pytest.raises(OptionsError, match="holds no checkpoint"):
        toy_classifier(tmp_path / "no backbone", epochs=1, training={"resume_from": absent}).fit(*toy_rows(32))


def test_an_altered_checkpoint_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    rows, folder = toy_rows(32), tmp_path / "c"
    toy_classifier(tiny_bert, epochs=1, training={"checkpoint_dir": str(folder)}).fit(*rows)
    weights = folder / "last" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleDamagedError, match="checksum"):
        toy_classifier(tiny_bert, epochs=1, training={"resume_from": str(folder)}).fit(*rows)


def test_out_of_memory_halves_the_batch_and_ends_at_the_same_weights(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = toy_rows(64)

    def fit() -> Any:
        clf = toy_classifier(tiny_bert, epochs=1)
        return clf.set_params(backbone__dropout=0.0, head__dropout=0.0).fit(*rows)

    whole = fit()
    original = MultiLabelNetwork.forward

    def forward(network: MultiLabelNetwork, batch: Batch) -> Any:
        if batch.n_samples > 4:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"
            )
        return original(network, batch)

    monkeypatch.setattr(MultiLabelNetwork, "forward", forward)
    halved = fit()
    assert "computed in 4 parts" in caplog.text
    np.testing.assert_allclose(halved.predict_proba(rows[0]), whole.predict_proba(rows[0]), atol=1e-5)


def test_one_row_too_large_for_memory_is_said_to_be(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(network: MultiLabelNetwork, batch: Batch) -> Any:
        raise MemoryError

    monkeypatch.setattr(MultiLabelNetwork, "forward", forward)
    with pytest.raises(TrainingMemoryError, match="max_length"):
        toy_classifier(tiny_bert, epochs=1).fit(*toy_rows(32))


def test_a_nan_loss_stops_training_with_the_step_and_a_way_out(tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, epochs=3, training={"learning_rate": 1e30, "max_grad_norm": None})
    with pytest.raises(NonFiniteLossError, match=r"step \d+ of .*learning_rate"):
        clf.fit(*toy_rows(64))


def test_early_stopping_restores_the_best_weights(tiny_bert: Path) -> None:
    rows, held_out = toy_rows(64), toy_rows(64, seed=8)
    training = {"early_stopping_patience": 1, "monitor": "loss", "learning_rate": 3e-2, "schedule": "constant"}
    clf = toy_classifier(tiny_bert, epochs=40, training=training).fit(*rows, validation_data=held_out)
    losses = [evaluation.metrics["loss"] for evaluation in clf.history_.evaluations]
    assert clf.history_.stopped_early
    assert clf.history_.best == int(np.argmin(losses))
    assert len(losses) < 40


def test_several_evaluations_an_epoch_are_recorded(tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, epochs=1, training={"evaluations_per_epoch": 3}).fit(
        *toy_rows(64), validation_data=toy_rows(16, seed=1)
    )
    assert len(clf.history_.evaluations) == 3


def test_bf16_learns_about_as_well_as_fp32(tiny_bert: Path) -> None:
    rows = toy_rows(64)
    losses = []
    for precision in ("fp32", "bf16"):
        clf = toy_classifier(tiny_bert, epochs=3, training={"precision": precision}).fit(*rows)
        assert clf.history_.precision == precision
        losses.append(clf.history_.evaluations[-1].train_loss)
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_gradient_checkpointing_gives_the_same_model(tiny_bert: Path) -> None:
    rows = toy_rows(32)
    results = []
    for on in (False, True):
        clf = toy_classifier(tiny_bert, epochs=1, training={"gradient_checkpointing": on})
        clf.set_params(backbone__dropout=0.0, head__dropout=0.0)
        results.append(clf.fit(*rows).predict_proba(rows[0]))
    np.testing.assert_allclose(*results, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's compiler warns about torch itself
def test_a_compiled_network_gives_the_same_model(tiny_bert: Path) -> None:
    rows = toy_rows(32)
    results = []
    for on in (False, True):
        clf = toy_classifier(tiny_bert, epochs=1, training={"compile": on})
        clf.set_params(backbone__dropout=0.0, head__dropout=0.0)
        results.append(clf.fit(*rows).predict_proba(rows[0]))
    np.testing.assert_allclose(*results, atol=1e-5)
