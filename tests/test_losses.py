"""Losses: the papers' formulas, unknown cells, extreme logits, low precision, and what they are good for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlclf.exceptions import InvalidInputError, OptionsError, UnknownLabelError
from mlclf.interfaces import LabelStatistics
from mlclf.losses import (
    AsymmetricOptions,
    BalancedOptions,
    BceLossOptions,
    DistributionBalancedOptions,
    FocalOptions,
    LossOptions,
    MultiLabelLoss,
    ZlprOptions,
    as_loss_options,
    make_loss,
    prior_logits,
)
from mlclf.plugins import resolve
from mlclf.plugins.builtins import BUILTINS

LOSSES = [spec.name for spec in BUILTINS["loss"]]
NAMES = ("anger", "fear", "joy", "love", "sadness")
COUNTS = LabelStatistics(
    NAMES, positives=np.array([400, 3, 120, 0, 999]), known=np.array([1000, 900, 1000, 1000, 1000])
)
LABEL_WEIGHTS = {"fear": 3.0, "love": 0.5}

# Every loss with its defaults, and with parameters that reach its other branches.
VARIANTS: list[LossOptions] = [
    BceLossOptions(),
    BalancedOptions(),
    BalancedOptions(power=1.0, ceiling=50.0),
    FocalOptions(),
    FocalOptions(gamma=0.5, alpha=0.25),
    FocalOptions(gamma=0.0),
    AsymmetricOptions(),
    AsymmetricOptions(gamma_neg=1.5, gamma_pos=1.0, clip=0.0),
    AsymmetricOptions(gamma_neg=0.5, gamma_pos=0.0, clip=0.2),
    ZlprOptions(),
    DistributionBalancedOptions(),
    DistributionBalancedOptions(gamma=2.0, kappa=0.3, negative_scale=5.0, mu=0.9),
]
every_loss = pytest.mark.parametrize("options", VARIANTS, ids=lambda options: options.component)


def batch(seed: int, n: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets and a mask with unknown cells; the last row has no label and the first no known cell."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, len(NAMES), generator=generator, dtype=torch.float64)
    targets = (torch.rand(n, len(NAMES), generator=generator) < 0.4).double()
    known = torch.rand(n, len(NAMES), generator=generator) < 0.7
    targets[-1], known[0] = 0, False
    return logits.to(dtype), targets.to(dtype), known


# --- The formulas of the papers, cell by cell in Python floats ---


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def naive_bce(z: float, y: bool, column: int, labels: list[int], options: Any) -> float:
    return -math.log(sigmoid(z)) if y else -math.log(1 - sigmoid(z))


def naive_balanced(z: float, y: bool, column: int, labels: list[int], options: BalancedOptions) -> float:
    positives, known = int(COUNTS.positives[column]), int(COUNTS.known[column])
    weight = ((known - positives + 1) / (positives + 1)) ** options.power
    weight = min(max(weight, 1 / options.ceiling), options.ceiling)
    return naive_bce(z, y, column, labels, options) * (weight if y else 1)


def naive_focal(z: float, y: bool, column: int, labels: list[int], options: FocalOptions) -> float:
    q = sigmoid(z) if y else 1 - sigmoid(z)
    alpha = 1.0 if options.alpha is None else options.alpha if y else 1 - options.alpha
    return -alpha * (1 - q) ** options.gamma * math.log(q)


def naive_asymmetric(z: float, y: bool, column: int, labels: list[int], options: AsymmetricOptions) -> float:
    p = sigmoid(z)
    if y:
        return -((1 - p) ** options.gamma_pos) * math.log(p)
    shifted = max(p - options.clip, 0)
    return -(shifted**options.gamma_neg) * math.log(1 - shifted)


def naive_distribution_balanced(
    z: float, y: bool, column: int, labels: list[int], options: DistributionBalancedOptions
) -> float:
    rows = [max(int(n), 1) for n in COUNTS.positives]
    drawn = sum(1 / rows[label] for label in labels)
    ratio = (1 / rows[column]) / drawn if labels else 1.0
    weight = options.alpha + sigmoid(options.beta * (ratio - options.mu))
    positives, known = int(COUNTS.positives[column]), int(COUNTS.known[column])
    x = z - options.kappa * math.log((known - positives + 1) / (positives + 1))
    scale = 1.0 if y else options.negative_scale
    q = sigmoid(x) if y else sigmoid(-scale * x)
    return -weight * (1 - q) ** options.gamma * math.log(q) / scale


NAIVE_CELLS: dict[str, Callable[..., float]] = {
    "bce": naive_bce,
    "balanced": naive_balanced,
    "focal": naive_focal,
    "asymmetric": naive_asymmetric,
    "distribution-balanced": naive_distribution_balanced,
}


def naive_row(z: list[float], y: list[float], known: list[bool], options: LossOptions) -> float:
    columns = [column for column in range(len(z)) if known[column]]
    labels = [column for column in columns if y[column]]
    weights = [LABEL_WEIGHTS.get(name, 1.0) for name in NAMES]
    if not columns:
        return 0.0
    if options.component == "zlpr":
        present = sum(weights[column] * math.exp(-z[column]) for column in labels)
        absent = sum(math.exp(z[column]) for column in columns if column not in labels)
        return math.log(1 + absent) + math.log(1 + present)
    cells = [
        NAIVE_CELLS[options.component](z[c], bool(y[c]), c, labels, options) * (weights[c] if y[c] else 1)
        for c in columns
    ]
    return sum(cells) / len(cells)


@every_loss
@pytest.mark.parametrize("all_known", [True, False])
def test_loss_is_the_papers_formula(options: LossOptions, all_known: bool) -> None:
    logits, targets, known = batch(seed=1, n=12)
    loss = make_loss(options, COUNTS, label_weights=LABEL_WEIGHTS)
    mask = torch.ones_like(known) if all_known else known
    expected = [naive_row(*row, options) for row in zip(logits.tolist(), targets.tolist(), mask.tolist(), strict=True)]
    got = loss(logits, targets, None if all_known else known)
    assert got.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@every_loss
def test_gradients_are_those_of_the_loss(options: LossOptions) -> None:
    logits, targets, known = batch(seed=2)
    loss = make_loss(options, COUNTS, label_weights=LABEL_WEIGHTS).double()
    assert torch.autograd.gradcheck(lambda z: loss(z, targets, known), logits.requires_grad_())
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), logits)


# --- Unknown cells, rows, shapes ---


@every_loss
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), junk=st.sampled_from([0.0, 1.0, -1.0, 7.0, math.nan, math.inf]))
def test_what_stands_in_unknown_cells_changes_nothing(options: LossOptions, seed: int, junk: float) -> None:
    logits, targets, known = batch(seed, dtype=torch.float32)
    loss = make_loss(options, COUNTS, label_weights=LABEL_WEIGHTS)
    results = []
    for content in (targets, targets.masked_fill(~known, junk)):
        leaf = logits.clone().requires_grad_()
        rows = loss(leaf, content, known)
        rows.sum().backward()
        results.append((rows.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert not results[1][1][~known].any()


@every_loss
def test_logit_of_an_unknown_cell_changes_nothing(options: LossOptions) -> None:
    logits, targets, known = batch(seed=3)
    loss = make_loss(options, COUNTS)
    torch.testing.assert_close(loss(logits, targets, known), loss(logits.masked_fill(~known, 50.0), targets, known))


@every_loss
def test_unknown_label_is_as_if_it_were_not_there(options: LossOptions) -> None:
    logits, targets, known = batch(seed=4)
    known[:, :] = True
    known[:, 2] = False
    keep = [0, 1, 3, 4]
    fewer = LabelStatistics(tuple(NAMES[c] for c in keep), COUNTS.positives[keep], COUNTS.known[keep])
    whole = make_loss(options, COUNTS)(logits, targets, known)
    torch.testing.assert_close(whole, make_loss(options, fewer)(logits[:, keep], targets[:, keep]))


@every_loss
def test_row_without_known_cells_costs_nothing(options: LossOptions) -> None:
    logits, targets, known = batch(seed=5)
    assert make_loss(options, COUNTS)(logits, targets, known)[0] == 0


@every_loss
def test_loss_of_a_row_does_not_depend_on_its_batch(options: LossOptions) -> None:
    logits, targets, known = batch(seed=6, n=7, dtype=torch.float32)
    loss = make_loss(options, COUNTS, label_weights=LABEL_WEIGHTS)
    alone = torch.cat([loss(logits[i : i + 1], targets[i : i + 1], known[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(loss(logits, targets, known), alone, rtol=1e-6, atol=0)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.int8])
def test_targets_may_be_bool_or_int(options: LossOptions, dtype: torch.dtype) -> None:
    logits, targets, known = batch(seed=7)
    loss = make_loss(options, COUNTS)
    torch.testing.assert_close(loss(logits, targets.to(dtype), known), loss(logits, targets, known))


@pytest.mark.parametrize("name", LOSSES)
def test_other_shapes_are_refused(name: str) -> None:
    loss = make_loss(name, COUNTS)
    with pytest.raises(InvalidInputError, match=r"needs targets of the logits' shape \(2, 5\), got \(2, 1\)"):
        loss(torch.zeros(2, 5), torch.zeros(2, 1))
    with pytest.raises(InvalidInputError, match=r"needs known of the logits' shape \(2, 5\), got \(5,\)"):
        loss(torch.zeros(2, 5), torch.zeros(2, 5), torch.ones(5, dtype=torch.bool))


# --- Numbers ---


@every_loss
@pytest.mark.parametrize("size", [0.0, 20.0, 88.8, 120.0, 1e4])
def test_extreme_logits_have_finite_losses_and_gradients(options: LossOptions, size: float) -> None:
    targets = torch.tensor([[1.0, 0.0, 1.0, 0.0, 1.0], [0.0] * 5, [1.0] * 5])
    for logits in (torch.full((3, 5), size), torch.full((3, 5), -size), size * (2 * targets - 1)):
        leaf = logits.clone().requires_grad_()
        loss = make_loss(options, COUNTS)(leaf, targets)
        loss.sum().backward()
        assert leaf.grad is not None
        assert torch.isfinite(loss).all()
        assert torch.isfinite(leaf.grad).all()


@every_loss
def test_wrong_answers_cost_more_and_pull_the_right_way(options: LossOptions) -> None:
    targets = torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.0]])
    wrong = (-30 * (2 * targets - 1)).requires_grad_()
    loss = make_loss(options, COUNTS)
    cost = loss(wrong, targets)
    cost.sum().backward()
    assert wrong.grad is not None
    assert cost > 1 > 1e-3 > loss(30 * (2 * targets - 1), targets)
    # ZLPR moves the worst-ranked labels; here they are tied, so that all move.
    assert (wrong.grad * (2 * targets - 1) < 0).all()


@every_loss
def test_float32_agrees_with_float64(options: LossOptions) -> None:
    logits, targets, known = batch(seed=8, n=64)
    loss = make_loss(options, COUNTS)
    exact, single = loss(4 * logits, targets, known), loss(4 * logits.float(), targets.float(), known)
    torch.testing.assert_close(single.double(), exact, rtol=2e-5, atol=1e-6)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(options: LossOptions, dtype: torch.dtype) -> None:
    logits, targets, known = batch(seed=9, dtype=dtype)
    loss = make_loss(options, COUNTS)
    got = loss(logits, targets, known)
    assert got.dtype == torch.float32
    assert torch.equal(got, loss(logits.float(), targets.float(), known))


@every_loss
def test_autocast_changes_nothing(options: LossOptions) -> None:
    logits, targets, known = batch(seed=10, dtype=torch.float32)
    loss = make_loss(options, COUNTS)
    plain = loss(logits, targets, known)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(logits, targets, known), plain)


@pytest.mark.parametrize("name", LOSSES)
def test_20000_labels_need_no_matrix_of_labels(name: str) -> None:
    n_labels = 20_000
    counts = LabelStatistics(tuple(map(str, range(n_labels))), np.arange(n_labels), np.full(n_labels, 100_000))
    loss = make_loss(name, counts, label_weights={"19999": 2.0})
    assert sum(buffer.numel() for buffer in loss.buffers()) <= 4 * n_labels
    logits = torch.zeros(2, n_labels, requires_grad=True)
    loss(logits, torch.eye(2, n_labels)).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@every_loss
def test_nothing_of_a_loss_is_saved(options: LossOptions) -> None:
    assert not make_loss(options, COUNTS, label_weights=LABEL_WEIGHTS).state_dict()


# --- Weights and priors ---


def test_balanced_weights_are_negatives_over_positives_within_the_ceiling() -> None:
    weights = make_loss(BalancedOptions(power=1), COUNTS).label_weights
    assert weights is not None
    assert weights.tolist() == pytest.approx([601 / 401, 100.0, 881 / 121, 100.0, 0.01])


def test_balanced_weights_are_damped_by_the_power() -> None:
    weights = make_loss("balanced", COUNTS).label_weights
    assert weights is not None
    assert weights[2].item() == pytest.approx(math.sqrt(881 / 121))


def test_balanced_weights_are_multiplied_by_weights_of_labels() -> None:
    plain, weighted = make_loss("balanced", COUNTS), make_loss("balanced", COUNTS, label_weights={"joy": 2.0})
    assert plain.label_weights is not None
    assert weighted.label_weights is not None
    assert (weighted.label_weights / plain.label_weights).tolist() == [1, 1, 2, 1, 1]


def test_weights_of_labels_count_positive_cells_only() -> None:
    targets = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0], [0.0] * 5])
    plain, weighted = make_loss("bce", COUNTS), make_loss("bce", COUNTS, label_weights={"fear": 6.0})
    ratio = weighted(torch.zeros(2, 5), targets) / plain(torch.zeros(2, 5), targets)
    assert ratio.tolist() == pytest.approx([2.0, 1.0])


def test_weight_of_something_that_is_no_label_is_refused_with_the_closest_label() -> None:
    with pytest.raises(UnknownLabelError, match=r"label_weights has 'feer', which is no label\. Did you mean 'fear'\?"):
        make_loss("bce", COUNTS, label_weights={"feer": 3.0})
    with pytest.raises(UnknownLabelError, match=r"Known: 'anger', 'fear', 'joy', 'love', 'sadness'\."):
        make_loss("bce", COUNTS, label_weights={"xyz": 3.0})


def test_prior_logits_are_smoothed_and_bounded() -> None:
    counts = LabelStatistics(("a", "b", "c"), np.array([0, 49, 10**6]), np.array([0, 98, 10**6]))
    assert prior_logits(counts).tolist() == [0.0, 0.0, 10.0]


# --- Names and parameters ---


def test_unknown_loss_is_refused_with_the_closest_name() -> None:
    with pytest.raises(OptionsError, match=r"no loss is named 'assymetric'\. Did you mean 'asymmetric'\?"):
        make_loss("assymetric", COUNTS)
    with pytest.raises(OptionsError, match=r"no loss is named 'hinge'\. Built in: bce, balanced, "):
        make_loss("hinge", COUNTS)
    with pytest.raises(OptionsError, match="A loss is a name, a dictionary with a name, or loss options; got 3"):
        make_loss(3, COUNTS)  # type: ignore[arg-type]


def test_parameters_are_checked_even_after_replace() -> None:
    with pytest.raises(OptionsError, match=r"FocalOptions\(gamma=-1\)"):
        make_loss(FocalOptions().replace(gamma=-1), COUNTS)
    with pytest.raises(OptionsError, match="AsymmetricOptions has no option 'gamma'"):
        make_loss({"name": "asymmetric", "gamma": 2}, COUNTS)


@every_loss
def test_parameters_survive_json(options: LossOptions) -> None:
    assert as_loss_options(options.model_dump(mode="json")) == options


@pytest.mark.parametrize("name", LOSSES)
def test_every_name_makes_its_class_with_default_parameters(name: str) -> None:
    loss = make_loss(name, COUNTS)
    assert type(loss) is resolve("loss", name)[1]
    assert loss.options == type(loss).Options()
    assert loss.options.component == name


# --- Learning ---


def toy(rare: int, noise: float = 0.6) -> tuple[Tensor, Tensor, LabelStatistics]:
    """Noisy features of 600 rows with one of two labels each, ``rare`` of them with the second one."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.zeros(600, 2)
    targets[:rare, 1] = 1
    targets[rare:, 0] = 1
    features = targets @ torch.eye(2) + noise * torch.randn(600, 2, generator=generator)
    positives = targets.sum(0).numpy().astype(np.int64)
    return features, targets, LabelStatistics(("common", "rare"), positives, np.array([600, 600]))


def fitted_logits(loss: MultiLabelLoss[Any], features: Tensor, targets: Tensor) -> Tensor:
    torch.manual_seed(0)
    linear = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(linear.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss(linear(features), targets).mean().backward()
        optimizer.step()
    return linear(features).detach()


@pytest.mark.parametrize("name", LOSSES)
def test_one_label_a_row_is_learned(name: str) -> None:
    features, targets, counts = toy(rare=300, noise=0.3)
    logits = fitted_logits(make_loss(name, counts), features, targets)
    assert (logits.argmax(1) == targets.argmax(1)).float().mean() > 0.95


@pytest.mark.parametrize("name", ["balanced", "distribution-balanced"])
def test_balancing_raises_the_recall_of_a_rare_label(name: str) -> None:
    features, targets, counts = toy(rare=30)

    def recall(loss: str) -> float:
        logits = fitted_logits(make_loss(loss, counts), features, targets)
        return float((logits[:30, 1] > 0).float().mean())

    assert recall(name) > recall("bce") + 0.1


def test_weight_of_a_label_raises_its_recall() -> None:
    features, targets, counts = toy(rare=30)
    plain = fitted_logits(make_loss("bce", counts), features, targets)
    weighted = fitted_logits(make_loss("bce", counts, label_weights={"rare": 10.0}), features, targets)
    assert (weighted[:30, 1] > 0).sum() > (plain[:30, 1] > 0).sum() + 3
