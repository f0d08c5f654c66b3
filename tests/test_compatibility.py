"""Every combination of built-in components: fitted where it is allowed, and a clear error where it is not.

The registry is enumerated, so that a new strategy or head is tried with everything else without a line here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from strategy_kit import disturb
from torch import nn
from toy import toy_classifier, toy_rows

from mlclf import (
    BertOptions,
    LlmOptions,
    MultiLabelClassifier,
    PromptGenerationOptions,
    PromptOptions,
    TrainingOptions,
    register_head,
    register_strategy,
)
from mlclf.backbones.pretrained import PretrainedBackbone
from mlclf.compatibility import Cell, chains, compatibility
from mlclf.exceptions import IncompatibleComponentsError, MissingExtraError, NotMergeableError
from mlclf.heads.bce import BceHead, BceOptions
from mlclf.inference import dense_probabilities
from mlclf.interfaces import HeadCapabilities, Strategy, StrategyCapabilities
from mlclf.onnx.graph import merged_copy
from mlclf.options import Options
from mlclf.plugins import resolve
from mlclf.plugins.builtins import BUILTINS
from mlclf.strategies.lora import LoraOptions, LoraStrategy
from mlclf.testing import tiny_decoder, tiny_encoder, tiny_masked_lm

BACKBONES, STRATEGIES, HEADS = ([spec.name for spec in BUILTINS[kind]] for kind in ("backbone", "strategy", "head"))
CELLS = compatibility(BACKBONES, STRATEGIES, HEADS)
PAIRS = chains(STRATEGIES)
CHAINS = compatibility(BACKBONES, [list(pair) for pair, refusal in PAIRS.items() if refusal is None], ["bce"])
# Heads whose defaults are for models that read more at once than the small ones here.
HEAD_OPTIONS: dict[str, Options] = {
    "prompt-generation": PromptGenerationOptions(prompt=PromptOptions(template="{{ text }}\n", labels="none"))
}
# What every run of the tests fits; the rest of the matrix is marked slow.
FAST_CHAINS = ("lora + adapter", "lora + bitfit", "lora + prefix", "qlora + adapter")


def name_of(value: Any) -> str:
    return (
        f"{value.backbone}-{value.strategy.replace(' + ', '+')}-{value.head}" if isinstance(value, Cell) else str(value)
    )


def is_fast(cell: Cell) -> bool:
    if " + " in cell.strategy:
        return cell.strategy in FAST_CHAINS and cell.backbone == "bert"
    return cell.head == "bce" or cell.strategy == "lora"


def marked(cells: Any) -> list[Any]:
    """Return cells as parameters of a test, most of them marked slow."""
    return [pytest.param(cell, marks=() if is_fast(cell) else pytest.mark.slow, id=name_of(cell)) for cell in cells]


ALLOWED = [cell for cell in (*CELLS, *CHAINS) if cell.allowed]
FORBIDDEN = [cell for cell in CELLS if not cell.allowed]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Options]:
    """Tiny random models. Qwen 2 has biases, which Llama has not, so that every strategy finds what it trains."""
    folder = tmp_path_factory.mktemp("compatibility")
    sizes = {"max_length": 32}
    return {
        "bert": BertOptions(model=str(tiny_masked_lm("bert", folder / "bert")), **sizes),
        "llm": LlmOptions(model=str(tiny_decoder("qwen2", folder / "qwen2")), **sizes),
    }


def classifier(cell: Cell, models: dict[str, Options], epochs: int = 3) -> MultiLabelClassifier:
    backbone: Any = models[cell.backbone]
    training: dict[str, Any] = {"batch_size": 8}
    if cell.head == "verbalizer":
        # It starts at the priors with few weights of its own: over a random model it learns late, in large steps.
        training |= {"learning_rate": 1e-2, "head_learning_rate": 1e-1}
        epochs *= 3
    head = HEAD_OPTIONS.get(cell.head, cell.head)
    return toy_classifier(
        Path(), cell.strategy.split(" + "), epochs=epochs, backbone=backbone, head=head, training=training
    )


def fit(cell: Cell, models: dict[str, Options], epochs: int = 3) -> MultiLabelClassifier:
    """Return a fitted classifier of a cell; an optional package that is absent skips the test."""
    try:
        return classifier(cell, models, epochs).fit(*toy_rows(64))
    except MissingExtraError as error:
        pytest.skip(str(error))


def probabilities(clf: MultiLabelClassifier, network: Any, texts: list[str]) -> Any:
    model = clf.model_
    return dense_probabilities(network, model.dataset(texts), model.labels.n_labels, torch.device("cpu"))


@pytest.mark.parametrize("cell", marked(ALLOWED))
def test_an_allowed_cell_learns_and_comes_back(cell: Cell, models: dict[str, Options], tmp_path: Path) -> None:
    clf = fit(cell, models)
    losses = [evaluation.train_loss for evaluation in clf.history_.evaluations]
    assert losses[-1] < losses[0]

    texts, _ = toy_rows(16)
    expected = clf.predict_proba(texts)
    clf.save(tmp_path / "model")
    np.testing.assert_allclose(MultiLabelClassifier.load(tmp_path / "model").predict_proba(texts), expected, atol=1e-6)

    strategy = clf.model_.strategy
    assert strategy.capabilities.merge == cell.merge
    merged = merged_copy(clf.model_.network, strategy)
    # Weights of 4 bits are made floats in another order of sums.
    tolerance = {"exact": 1e-5, "lossy": 1e-2, "no": 1e-5}[str(cell.merge)]
    np.testing.assert_allclose(probabilities(clf, merged, texts), expected, atol=tolerance)
    if cell.merge == "no":
        with pytest.raises(NotMergeableError, match="cannot be merged"):
            strategy.merge(clf.model_.network.backbone)
    np.testing.assert_array_equal(clf.predict_proba(texts), expected)


def adapted(cell: Cell, models: dict[str, Options]) -> tuple[PretrainedBackbone, Strategy]:
    """Return a backbone that the strategy of a cell has adapted."""
    from mlclf.assembly import resolve_parts

    parts = resolve_parts(models[cell.backbone], cell.strategy.split(" + "), cell.head)
    backbone, strategy = parts.backbone_class(parts.backbone), parts.strategy_class(parts.strategy)
    assert isinstance(backbone, PretrainedBackbone)
    try:
        backbone.load(strategy.load_request())
    except MissingExtraError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    strategy.check(backbone)
    strategy.adapt(backbone)
    return backbone, strategy


def example(backbone: PretrainedBackbone) -> Any:
    return backbone.collate(backbone.encode(["the cat eats", "rain and snow on the train today"]), np.arange(2))


WITH_BCE = [cell for cell in ALLOWED if cell.head == "bce"]


@pytest.mark.parametrize("cell", marked(WITH_BCE))
def test_what_learns_gets_a_gradient_and_changes_the_output(cell: Cell, models: dict[str, Options]) -> None:
    backbone, strategy = adapted(cell, models)
    learning = {name: p for name, p in backbone.model.named_parameters() if p.requires_grad}
    start = {name: parameter.detach().clone() for name, parameter in learning.items()}
    batch = example(backbone)
    backbone.eval()
    with torch.no_grad():
        before = backbone(batch).pooled
        disturb(backbone)  # type: ignore[arg-type]  # all that it needs is the model
        after = backbone(batch).pooled
    assert bool(learning) is bool((after - before).abs().max() > 1e-4)
    if not learning:
        return
    strategy.set_train_mode(backbone)
    for seed in range(8):  # one draw may switch a narrow bottleneck off for all tokens
        for name, parameter in learning.items():
            parameter.data.copy_(start[name])
        disturb(backbone, seed)  # type: ignore[arg-type]
        output = backbone(batch).pooled
        (output * torch.randn_like(output)).sum().backward()
    without = [name for name, p in learning.items() if p.grad is None or not p.grad.any()]
    # The bias of keys adds the same to all of a query's scores, which the softmax takes out again.
    assert [name for name in without if not name.endswith(("key.bias", "k_proj.bias"))] == []


@pytest.mark.parametrize("cell", marked([cell for cell in WITH_BCE if cell.gradient_checkpointing]))
def test_recomputed_activations_give_the_same_gradients(cell: Cell, models: dict[str, Options]) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone, strategy = adapted(cell, models)
        disturb(backbone)  # type: ignore[arg-type]
        if checkpointing:
            backbone.enable_gradient_checkpointing()
        strategy.set_train_mode(backbone)
        for module in backbone.model.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        output = backbone(example(backbone)).pooled.square().sum()
        if output.requires_grad:
            output.backward()
        gradients.append([p.grad for p in backbone.model.parameters() if p.grad is not None])
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("cell", marked(WITH_BCE))
def test_detaching_gives_back_what_was_loaded_or_says_why_not(cell: Cell, models: dict[str, Options]) -> None:
    backbone, strategy = adapted(cell, models)
    disturb(backbone)  # type: ignore[arg-type]
    if not strategy.capabilities.detachable:
        with pytest.raises(IncompatibleComponentsError, match="trains the loaded weights themselves"):
            strategy.detach(backbone)
        return
    strategy.detach(backbone)
    pristine = type(backbone)(backbone.options)
    pristine.load(strategy.load_request())
    found, expected = backbone.model.state_dict(), pristine.model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with torch.no_grad():
        batch = example(backbone)
        assert torch.equal(backbone.eval()(batch).pooled, pristine.eval()(batch).pooled)


# An export takes seconds: of the chains, those that are fitted in every run.
EXPORTED = [cell for cell in ALLOWED if cell.exports and (" + " not in cell.strategy or is_fast(cell))]


@pytest.mark.slow
@pytest.mark.parametrize("cell", EXPORTED, ids=name_of)
def test_a_cell_exports_where_it_says_so(cell: Cell, models: dict[str, Options], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    report = fit(cell, models, epochs=1).export_onnx(tmp_path / "bundle")  # proves that it agrees
    assert report.merged is (cell.merge != "no")


@pytest.mark.parametrize("cell", [cell for cell in ALLOWED if not cell.exports], ids=name_of)
def test_a_cell_that_does_not_export_says_why(cell: Cell, models: dict[str, Options], tmp_path: Path) -> None:
    clf = fit(cell, models, epochs=1)
    with pytest.raises(IncompatibleComponentsError) as caught:
        clf.export_onnx(tmp_path / "bundle")
    assert str(caught.value) == cell.export_refusal
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("cell", FORBIDDEN, ids=name_of)
def test_a_forbidden_cell_is_refused_before_anything_is_loaded(cell: Cell) -> None:
    refused_before_loading(MultiLabelClassifier(cell.backbone, cell.strategy, cell.head), str(cell.refusal))


def refused_before_loading(clf: MultiLabelClassifier, message: str) -> None:
    """Show that an error comes though the backbone could not be loaded at all."""
    backbone: Any = clf.backbone
    if isinstance(backbone, str):
        backbone = resolve("backbone", backbone)[2]
    with pytest.raises(IncompatibleComponentsError) as caught:
        clf.set_params(backbone=backbone.replace(model="/nowhere"), verbose=0).fit(*toy_rows(32))
    assert message in str(caught.value)


@pytest.mark.parametrize("pair", [pair for pair, refusal in PAIRS.items() if refusal is not None], ids="+".join)
def test_a_pair_that_is_no_chain_says_what_to_write(pair: tuple[str, str]) -> None:
    refusal = str(PAIRS[pair])
    assert any(repr(name) in refusal for name in pair)
    assert any(way in refusal for way in ("Use it alone", "Weights come first", "Choose one", "Leave", "pip install"))


def test_a_pair_chains_in_one_order_or_says_so_for_both() -> None:
    for (first, second), refusal in PAIRS.items():
        if refusal is not None and "Weights come first" in refusal:
            assert PAIRS[second, first] is None


# Components made to be refused, since the built-in ones may all go together.


class NarrowOptions(LoraOptions):
    """Options of :class:`Narrow`."""

    component = "local:narrow"


class Narrow(LoraStrategy):
    """LoRA that says it can do nothing."""

    Options = NarrowOptions  # type: ignore[assignment]
    capabilities: ClassVar[StrategyCapabilities] = StrategyCapabilities()  # type: ignore[misc]


class WholeOptions(BceOptions):
    """Options of :class:`Whole`."""

    component = "local:whole"


class Whole(BceHead):
    """A head that says it can do nothing."""

    Options = WholeOptions
    capabilities: ClassVar[HeadCapabilities] = HeadCapabilities()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("strategy", "head", "backbone", "message"),
    [
        (
            {"families": {"causal-lm"}},
            {},
            BertOptions(),
            "'local:narrow' works with backbones of the families causal-lm",
        ),
        ({"padding": "right"}, {}, LlmOptions(padding_side="left"), "'local:narrow' needs padding on the right"),
        (
            {},
            {"families": {"encoder"}},
            LlmOptions(),
            "Head 'local:whole' works with backbones of the families encoder",
        ),
        ({}, {"padding": "left"}, BertOptions(), "Head 'local:whole' needs padding on the left"),
        ({}, {"windows": False}, BertOptions(window_stride=4), "Head 'local:whole' reads a text as a whole"),
        ({}, {"memory": True}, BertOptions(), "Head 'local:whole' reads on from what was read before"),
        ({}, {"memory": True}, LlmOptions(bidirectional=True), "backbone 'llm' remembers nothing"),
        ({"changes": "tokens"}, {"masks": True}, LlmOptions(), "strategy 'local:narrow' adds tokens"),
        ({"gradient_checkpointing": False}, {}, BertOptions(), "'local:narrow' cannot be trained with recomputed"),
    ],
)
def test_what_components_declare_is_checked_before_loading(
    strategy: dict[str, Any], head: dict[str, Any], backbone: Any, message: str
) -> None:
    made = type("Made", (Narrow,), {"capabilities": StrategyCapabilities(**strategy)})
    read = type("Read", (Whole,), {"capabilities": HeadCapabilities(**head)})
    register_strategy(made, name="local:narrow")
    register_head(read, name="local:whole")
    training = TrainingOptions(gradient_checkpointing=True)
    clf = MultiLabelClassifier(backbone, "local:narrow", "local:whole", training=training)
    refused_before_loading(clf, message)
    [cell] = compatibility([backbone], ["local:narrow"], ["local:whole"])
    assert cell.allowed is ("gradient_checkpointing" in strategy)


def test_a_backbone_without_layers_is_refused_where_a_strategy_declares_a_need(tmp_path: Path) -> None:
    made = type("Made", (Narrow,), {"capabilities": StrategyCapabilities(needs_layers=True), "check": Strategy.check})
    register_strategy(made, name="local:narrow")
    clf = toy_classifier(tiny_encoder("albert", tmp_path / "albert"), "local:narrow")
    with pytest.raises(IncompatibleComponentsError, match=r"'local:narrow' needs a stack of layers.*ALBERT"):
        clf.fit(*toy_rows(32))


def test_the_matrix_takes_options_chains_and_what_is_registered() -> None:
    register_strategy(Narrow, name="local:narrow")
    names = {cell.strategy for cell in compatibility(backbones=["bert"], heads=["bce"])}
    assert {*STRATEGIES, "local:narrow"} <= names
    cells = compatibility([BertOptions(window_stride=2)], [["lora", "full"], "lora"], [BceOptions()])
    assert [(cell.strategy, cell.allowed) for cell in cells] == [("lora + full", False), ("lora", True)]
    assert "cannot be combined" in str(cells[0].refusal)


def test_the_documentation_shows_every_built_in_component() -> None:
    hook = Path(__file__).parent.parent / "docs" / "hooks" / "macros.py"
    spec = importlib.util.spec_from_file_location("macros", hook)
    assert spec is not None
    assert spec.loader is not None
    macros = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(macros)
    page = (hook.parent.parent / "compatibility.md").read_text(encoding="utf-8")
    shown = macros.on_page_markdown(page)
    assert "{{" not in shown
    for name in (*BACKBONES, *STRATEGIES, *HEADS):
        assert f"`{name}`" in shown
