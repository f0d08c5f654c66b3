"""The head ``bce``: where it starts, what it learns, in which precision, and which options it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mlclf.exceptions import OptionsError, UnknownLabelError
from mlclf.heads.bce import BceHead, BceOptions
from mlclf.interfaces import Backbone, BackboneSource, Batch, LabelStatistics, LoadRequest
from mlclf.labels import LabelSpace
from mlclf.losses import FocalLoss, FocalOptions
from mlclf.options import Options
from mlclf.plugins.builtins import BUILTINS

NAMES = ("anger", "fear", "joy")
COUNTS = LabelStatistics(NAMES, positives=np.array([49, 9, 0]), known=np.array([98, 98, 48]))
PRIORS = [0.5, 0.1, 0.02]
HIDDEN = 8


class VectorOptions(Options):
    """No options."""


class Vectors(Backbone):
    """A backbone whose pooled vectors are given in the batch."""

    Options = VectorOptions

    def __init__(self) -> None:
        super().__init__(VectorOptions())
        self.hidden_size = HIDDEN

    def load(self, request: LoadRequest, folder: Path | None = None) -> None:
        raise NotImplementedError

    def source(self) -> BackboneSource:
        raise NotImplementedError

    def token_states(self, batch: Batch) -> Tensor:
        return batch.extras["vectors"][:, None, :]

    def pooling(self, tokens: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return tokens[:, 0]


def vectors(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, HIDDEN, generator=torch.Generator().manual_seed(seed))


def batch_of(pooled: Tensor, targets: Tensor | None = None, known: Tensor | None = None, **fields: Any) -> Batch:
    ids = torch.ones(len(pooled), 1, dtype=torch.int64)
    fields = {"n_samples": len(pooled), **fields}
    return Batch(ids, ids, targets=targets, known=known, extras={"vectors": pooled}, **fields)


def bound(counts: LabelStatistics = COUNTS, **options: Any) -> BceHead:
    head = BceHead(BceOptions(**options))
    head.bind(Vectors(), counts)
    return head.eval()


# --- Start ---


@pytest.mark.parametrize("hidden", [(), (16,), (16, 4)])
def test_first_probabilities_are_the_label_priors(hidden: tuple[int, ...]) -> None:
    probabilities = bound(hidden=hidden).probabilities(Vectors(), batch_of(vectors(5)))
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities, torch.tensor([PRIORS] * 5), rtol=0.02, atol=0)


def test_without_prior_bias_first_probabilities_are_one_half() -> None:
    probabilities = bound(prior_bias=False).probabilities(Vectors(), batch_of(vectors(5)))
    torch.testing.assert_close(probabilities, torch.full((5, 3), 0.5), rtol=0.02, atol=0)


@pytest.mark.parametrize("hidden", [(), (16,)])
def test_same_seed_gives_the_same_head(hidden: tuple[int, ...]) -> None:
    states = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        states.append(bound(hidden=hidden).state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert not torch.equal(states[0]["output.weight"], states[2]["output.weight"])


def test_counts_without_targets_suffice_and_give_the_same_head() -> None:
    targets = LabelSpace(NAMES).encode([["joy"], ["fear", "joy"], [], ["anger"]])
    states = []
    for given in (targets, None):
        torch.manual_seed(0)
        head = bound(LabelStatistics(NAMES, targets.positives, targets.known_counts, given), loss="balanced")
        states.append({**head.state_dict(), "weights": head.loss.label_weights})
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


@pytest.mark.parametrize("loss", [spec.name for spec in BUILTINS["loss"]])
def test_saved_tensors_are_those_of_the_layers_and_load_into_a_new_head(loss: str) -> None:
    first, second = bound(loss=loss, hidden=(16,)), bound(loss=loss, hidden=(16,))
    assert set(first.state_dict()) == {"hidden.1.weight", "hidden.1.bias", "output.weight", "output.bias"}
    second.load_state_dict(first.state_dict())
    batch = batch_of(vectors(4))
    assert torch.equal(first.probabilities(Vectors(), batch), second.probabilities(Vectors(), batch))


def test_dropout_acts_in_training_only() -> None:
    head, batch = bound(dropout=0.5, hidden=(16,)), batch_of(vectors(4))
    assert torch.equal(head.logits(Vectors(), batch), head.logits(Vectors(), batch))
    head.train()
    assert not torch.equal(head.logits(Vectors(), batch), head.logits(Vectors(), batch))


# --- Precision ---


def test_low_precision_features_are_read_in_float32() -> None:
    head, pooled = bound(hidden=(16,)), vectors(4)
    got = head.logits(Vectors(), batch_of(pooled.bfloat16()))
    assert got.dtype == torch.float32
    assert torch.equal(got, head.logits(Vectors(), batch_of(pooled.bfloat16().float())))


def test_autocast_of_the_backbone_does_not_reach_the_head() -> None:
    head, batch = bound(hidden=(16,)), batch_of(vectors(4), targets=torch.zeros(4, 3))
    plain = head.losses(Vectors(), batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head.losses(Vectors(), batch), plain)
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.bfloat16


def test_gradients_reach_features_in_their_own_precision() -> None:
    pooled = vectors(4).bfloat16().requires_grad_()
    bound().losses(Vectors(), batch_of(pooled, targets=torch.zeros(4, 3))).sum().backward()
    assert pooled.grad is not None
    assert pooled.grad.dtype == torch.bfloat16


# --- Losses ---


def test_loss_is_one_figure_a_sample_with_unknown_cells_left_out() -> None:
    head, known = bound(), torch.tensor([[True, True, False]] * 4)
    targets = torch.zeros(4, 3)
    losses = head.losses(Vectors(), batch_of(vectors(4), targets, known))
    assert losses.shape == (4,)
    changed = head.losses(Vectors(), batch_of(vectors(4), targets.masked_fill(~known, 1.0), known))
    assert torch.equal(losses, changed)


def test_windows_of_a_sample_are_aggregated_before_the_loss() -> None:
    head, pooled = bound(), vectors(3)
    owners = torch.tensor([0, 0, 1])
    whole = head.losses(Vectors(), batch_of(pooled, torch.zeros(2, 3), row_samples=owners, n_samples=2))
    assert whole.shape == (2,)
    logits = head.output(pooled)
    expected = head.loss(torch.stack([logits[:2].amax(0), logits[2]]), torch.zeros(2, 3))
    torch.testing.assert_close(whole, expected)


def test_loss_may_be_given_with_parameters_or_as_in_a_file() -> None:
    for loss in (FocalOptions(gamma=1), {"name": "focal", "gamma": 1}):
        head = bound(loss=loss)
        assert isinstance(head.loss, FocalLoss)
        assert head.loss.options == FocalOptions(gamma=1)


@pytest.mark.parametrize("hidden", [(), (16,)])
@pytest.mark.parametrize("loss", [spec.name for spec in BUILTINS["loss"]])
def test_head_learns_with_every_loss(loss: str, hidden: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    pooled = vectors(200)
    targets = (pooled[:, :3] > torch.tensor([0.0, 0.5, 1.0])).float()
    counts = LabelStatistics(NAMES, targets.sum(0).long().numpy(), np.full(3, 200))
    head = bound(counts, loss=loss, hidden=hidden).train()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        head.losses(Vectors(), batch_of(pooled, targets)).mean().backward()
        optimizer.step()
    scores = head.eval().probabilities(Vectors(), batch_of(pooled))
    for label in range(3):
        positive, negative = scores[targets[:, label] == 1, label], scores[targets[:, label] == 0, label]
        assert (positive[:, None] > negative[None, :]).float().mean() > 0.97


# --- Options ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "focl"}, r"no loss is named 'focl'\. Did you mean 'focal'\?"),
        ({"loss": {"name": "focal", "gamma": -1}}, r"FocalOptions\(gamma=-1\)"),
        ({"loss": 3}, "got 3"),
        ({"hidden": (16, 0)}, r"BceOptions\(hidden\.1=0\)"),
        ({"dropout": 1.0}, r"BceOptions\(dropout=1\.0\): input should be less than 1"),
        ({"label_weights": {"fear": 0}}, r"BceOptions\(label_weights\.fear=0\): input should be greater than 0"),
        ({"label_weights": {"fear": float("inf")}}, "finite"),
        ({"loss_name": "bce"}, "BceOptions has no option 'loss_name'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        BceOptions(**options)


def test_weight_of_something_that_is_no_label_is_refused_by_bind() -> None:
    with pytest.raises(UnknownLabelError, match=r"Did you mean 'fear'\?"):
        bound(label_weights={"fera": 2.0})


@pytest.mark.parametrize(
    "options",
    [
        BceOptions(),
        BceOptions(loss="zlpr", hidden=(16, 4), dropout=0.0, prior_bias=False, label_weights={"fear": 3.0}),
        BceOptions(loss=FocalOptions(gamma=1, alpha=0.3)),
    ],
)
def test_options_survive_json_and_validation(options: BceOptions) -> None:
    assert BceOptions(**options.model_dump(mode="json")) == options
    assert options.validated() == options


# --- Export ---


@pytest.mark.parametrize("hidden", [(), (16,)])
def test_graph_of_the_head_has_linear_layers_and_nothing_of_autocast(hidden: tuple[int, ...]) -> None:
    head = bound(hidden=hidden)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, pooled: Tensor) -> Tensor:
            return self.head.logits(Vectors(), batch_of(pooled))

    program = torch.export.export(Logits().eval(), (vectors(4),))
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("autocast" in name for name in names)
    torch.testing.assert_close(program.module()(vectors(4, seed=1)), Logits().eval()(vectors(4, seed=1)))
