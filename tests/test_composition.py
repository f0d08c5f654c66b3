"""Fits that start from what saved models have learned."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import toy_classifier, toy_rows

from mlclf import LoraOptions, MultiLabelClassifier, merge_loras
from mlclf.exceptions import BundleDamagedError, BundleError, IncompatibleComponentsError, OptionsError
from mlclf.strategies.lora_layers import adapted as lora_layers
from mlclf.testing import tiny_decoder, tiny_encoder, tiny_texts

TEXTS, TOPICS = toy_rows(48)
LENGTHS = [["long"] if len(text.split()) > 7 else ["short"] for text in TEXTS]
NEW = tiny_texts(8, seed=5)
THIN = ("ties", "ties_svd", "dare_linear", "dare_ties", "dare_linear_svd", "magnitude_prune")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two saved models of rank 4 over one encoder, one of rank 2 with rsLoRA, and one over another encoder."""
    place = tmp_path_factory.mktemp("sources")
    encoder, other = tiny_encoder("bert", place / "bert"), tiny_encoder("bert", place / "other-bert", seed=1)
    for name, folder, strategy, labels in (
        ("topics", encoder, LoraOptions(r=4), TOPICS),
        ("length", encoder, LoraOptions(r=4), LENGTHS),
        ("small", encoder, LoraOptions(r=2, alpha=8, use_rslora=True), TOPICS),
        ("upper", encoder, LoraOptions(r=4, layers=1), TOPICS),
        ("dora", encoder, LoraOptions(r=4, use_dora=True), TOPICS),
        ("pissa", encoder, LoraOptions(r=4, init="pissa"), TOPICS),
        ("full", encoder, "head-only", TOPICS),
        ("other", other, LoraOptions(r=4), TOPICS),
    ):
        training = {"learning_rate": 2e-2}
        toy_classifier(folder, strategy, epochs=1, training=training).fit(TEXTS, labels).save(place / name)
    return place


def folders(place: Path, *names: str) -> list[Path]:
    return [place / name for name in names]


def update(place: Path, name: str) -> dict[str, torch.Tensor]:
    """The updates of a saved model as one matrix a layer."""
    model = MultiLabelClassifier.load(place / name, device="cpu").model_
    return {
        n: layer.get_delta_weight("default").detach() for n, layer in lora_layers(model.network.backbone.model).items()
    }


def started(place: Path, options: LoraOptions) -> dict[str, torch.Tensor]:
    """The updates at the start of a fit."""
    from mlclf.backbones.bert import BertBackbone, BertOptions
    from mlclf.interfaces import LoadRequest
    from mlclf.strategies.lora import LoraStrategy

    backbone, strategy = BertBackbone(BertOptions(model=str(place / "bert"))), LoraStrategy(options)
    backbone.load(LoadRequest())
    strategy.adapt(backbone)
    strategy.initialise(backbone, [])
    return {n: layer.get_delta_weight("default").detach() for n, layer in lora_layers(backbone.model).items()}


def test_cat_is_the_weighted_sum_of_updates(place: Path) -> None:
    options = merge_loras(folders(place, "topics", "small"), [0.7, -0.2], "cat")
    assert options.r == 6
    first, second, merged = update(place, "topics"), update(place, "small"), started(place, options)
    assert merged.keys() == first.keys()
    for name, matrix in merged.items():
        torch.testing.assert_close(matrix, 0.7 * first[name] - 0.2 * second[name], atol=1e-5, rtol=1e-4)


def test_svd_is_the_best_approximation_of_the_sum(place: Path) -> None:
    first, second = update(place, "topics"), update(place, "length")
    merged = started(place, merge_loras(folders(place, "topics", "length"), [0.5, 0.5], "svd", r=3))
    for name, matrix in merged.items():
        u, s, v = torch.linalg.svd(0.5 * first[name] + 0.5 * second[name])
        torch.testing.assert_close(matrix, u[:, :3] @ torch.diag(s[:3]) @ v[:3], atol=1e-5, rtol=1e-3)


def test_linear_merges_the_matrices_each_by_itself(place: Path) -> None:
    whole = started(place, merge_loras(folders(place, "topics"), [1.0], "linear"))
    twice = started(place, merge_loras(folders(place, "topics", "topics"), [0.5, 0.5], "linear"))
    for name, matrix in update(place, "topics").items():
        torch.testing.assert_close(twice[name], 2 * matrix, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(whole[name], matrix, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("method", ["linear", "cat", "svd", *THIN])
def test_every_method_starts_a_fit_that_needs_no_source_afterwards(place: Path, tmp_path: Path, method: Any) -> None:
    sources = [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in folders(place, "topics", "length")]
    options = merge_loras(sources, method=method, density=0.5 if method in THIN else None)
    clf = toy_classifier(place / "bert", options, epochs=1).fit(TEXTS, TOPICS)
    clf.save(tmp_path / "merged")
    for source in sources:
        shutil.rmtree(source)
    loaded = MultiLabelClassifier.load(tmp_path / "merged", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(NEW), clf.predict_proba(NEW))
    assert loaded.strategy == options


def test_a_causal_model_starts_from_merged_updates_too(tmp_path: Path) -> None:
    from mlclf import LlmOptions

    backbone = LlmOptions(model=str(tiny_decoder("qwen3", tmp_path / "qwen3")), padding_side="left")
    first = toy_classifier(tmp_path, LoraOptions(r=2), epochs=1, backbone=backbone).fit(TEXTS, TOPICS)
    first.save(tmp_path / "first")
    start = merge_loras([tmp_path / "first"] * 2)
    again = toy_classifier(tmp_path, start, epochs=1, backbone=backbone, training={"learning_rate": 1e-12}).fit(
        TEXTS, TOPICS
    )
    for name, layer in lora_layers(again.model_.network.backbone.model).items():
        original = lora_layers(first.model_.network.backbone.model)[name].get_delta_weight("default")
        torch.testing.assert_close(layer.get_delta_weight("default"), original, atol=1e-5, rtol=1e-4)


def test_a_grid_search_may_set_options_beside_the_start(place: Path) -> None:
    clf = toy_classifier(place / "bert", merge_loras(folders(place, "topics")), epochs=1)
    clf.set_params(strategy__dropout=0.1).fit(TEXTS, TOPICS)
    assert clf.strategy.start.weights == (1.0,)


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        (("topics", "dora"), {}, "DoRA, PiSSA or OLoRA"),
        (("pissa",), {}, "DoRA, PiSSA or OLoRA"),
        (("topics", "upper"), {}, "differ in targets or layers"),
        (("topics", "other"), {}, "different pretrained weights"),
        (("topics", "full"), {}, "trained with strategy 'head-only'"),
    ],
)
def test_sources_that_do_not_fit_together_are_refused(place: Path, names: Any, arguments: Any, message: str) -> None:
    with pytest.raises(IncompatibleComponentsError, match=message):
        merge_loras(folders(place, *names), **arguments)


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        ((), {}, "at least one folder"),
        (("topics", "small"), {"method": "linear"}, "out of ranks"),
        (("topics",), {"r": 3, "method": "cat"}, "cannot make rank 3"),
        (("topics",), {"weights": [0.5, 0.5]}, "one weight for each of the 1 sources"),
        (("topics",), {"method": "ties"}, "must be given with the methods"),
        (("topics",), {"density": 0.5}, "must be given with the methods"),
        (("topics",), {"method": "mean"}, "method"),
    ],
)
def test_wrong_options_of_merging_are_refused(place: Path, names: Any, arguments: Any, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        merge_loras(folders(place, *names), **arguments)


def test_a_folder_that_is_no_saved_model_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a saved model"):
        merge_loras([tmp_path])
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(BundleDamagedError, match="damaged"):
        merge_loras([tmp_path])


def test_a_source_that_was_altered_is_refused_in_the_fit(place: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(place / "topics", tmp_path / "topics"))
    options = merge_loras([source])
    path = source / "strategy.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleDamagedError, match="altered"):
        toy_classifier(place / "bert", options, epochs=1).fit(TEXTS, TOPICS)


def test_a_fit_over_other_weights_or_of_another_rank_is_refused(place: Path) -> None:
    options = merge_loras(folders(place, "topics"))
    with pytest.raises(IncompatibleComponentsError, match="other pretrained weights"):
        toy_classifier(place / "other-bert", options, epochs=1).fit(TEXTS, TOPICS)
    with pytest.raises(IncompatibleComponentsError, match="gives rank 4"):
        toy_classifier(place / "bert", options.replace(r=8), epochs=1).fit(TEXTS, TOPICS)
    with pytest.raises(IncompatibleComponentsError, match="other layers"):
        toy_classifier(place / "bert", options.replace(layers=1), epochs=1).fit(TEXTS, TOPICS)


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"init": "pissa"}])
def test_a_start_goes_with_plain_updates_only(place: Path, changes: Any) -> None:
    options = merge_loras(folders(place, "topics")).replace(**changes)
    with pytest.raises(OptionsError, match="starts plain updates"):
        options.validated()
