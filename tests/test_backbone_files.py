"""Model files that cannot be used, or must not be trusted, are refused with the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mlclf.backbones.bert import BertBackbone, BertOptions
from mlclf.exceptions import BackboneLoadError
from mlclf.interfaces import LoadRequest
from mlclf.testing import tiny_encoder, tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_encoder("bert", tmp_path / "model")


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def load(folder: Path | str, **options: Any) -> BertBackbone:
    backbone = BertBackbone(BertOptions(model=str(folder), **options))
    backbone.load(LoadRequest())
    return backbone


def refused(folder: Path | str, message: str, **options: Any) -> None:
    with pytest.raises(BackboneLoadError, match=message):
        load(folder, **options)


def test_an_unreachable_hub_names_the_plugin_that_needs_no_network() -> None:
    refused("sentence-transformers/some-absent-model", r"cannot be reached \(HF_HUB_OFFLINE is set\)")
    refused("sentence-transformers/some-absent-model", r'pip install mlclf-minilm` and use backbone="minilm:l6"')


@pytest.mark.parametrize("path", ["/absent/model", "./absent", "../absent", "models/absent/v1"])
def test_an_absent_folder_is_not_looked_up_in_the_hub(path: str) -> None:
    refused(path, "There is no folder")


def test_a_name_that_no_model_can_have(tmp_path: Path) -> None:
    refused("not a model!", "there is no folder of that name")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not valid JSON"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), "is not valid JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "does not name its architecture"),
        (lambda folder: edit_config(folder, model_type="future-bert"), "installed transformers does not have"),
        (lambda folder: edit_config(folder, model_type="gpt2"), 'causal language model.*Use backbone="llm"'),
        (lambda folder: edit_config(folder, is_decoder=True), 'causal language model.*Use backbone="llm"'),
        (lambda folder: edit_config(folder, model_type="t5"), "no encoder of the BERT family"),
        (lambda folder: edit_config(folder, hidden_size="wide"), "is not valid for 'bert'"),
        (lambda folder: edit_config(folder, hidden_size=64), "cannot be read as BertModel"),
        (lambda folder: edit_config(folder, num_hidden_layers=5), "lack 48 tensors of BertModel"),
        (lambda folder: edit_config(folder, vocab_size=3), "the files belong to different models"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no usable fast tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "no usable fast tokenizer"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"has no \*\.safetensors weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x08"), "cannot be read as BertModel"),
    ],
)
def test_a_damaged_or_unfit_folder_is_refused(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    refused(folder, message)


def test_pickled_weights_are_never_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(1)}, folder / "pytorch_model.bin")
    refused(folder, r"'pytorch_model\.bin', a format that can run code when it is read; mlclf reads safetensors only")


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_a_length_beyond_the_positions_is_refused_before_weights_are_read(tmp_path: Path, architecture: Any) -> None:
    folder = tiny_encoder(architecture, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"broken")
    refused(folder, r"max_length=65 is more than the 64 tokens.*Use max_length=64 or less", max_length=65)


def test_code_named_in_a_config_is_never_run(folder: Path) -> None:
    ran = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')")
    edit_config(folder, auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}, architectures=["Evil"])
    load(folder).save_files(folder / "saved")
    assert not ran.exists()
    assert "auto_map" not in json.loads((folder / "saved" / "config.json").read_text())


@pytest.mark.parametrize(
    "change",
    [
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation": "someone/kernel"},
        {"_attn_implementation_internal": {"": "someone/kernel"}},
        {"experts_implementation": "someone/kernel"},
        {"text_config": {"_attn_implementation": "someone/kernel"}},
    ],
)
def test_a_config_that_asks_for_compiled_code_is_refused(folder: Path, change: dict[str, Any]) -> None:
    edit_config(folder, **change)
    refused(folder, "asks for code of the hub .* which mlclf never loads")


def test_a_harmless_attention_name_in_a_config_is_dropped(folder: Path) -> None:
    edit_config(folder, _attn_implementation="flash_attention_2")
    backbone = load(folder)
    backbone.save_files(folder / "saved")
    assert not any("attn" in key for key in json.loads((folder / "saved" / "config.json").read_text()))


def test_a_vocabulary_file_alone_is_converted(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    vocabulary = sorted(tiny_tokenizer().get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("\n".join(token for token, _ in vocabulary))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    assert load(folder).encode(["The cat"]).ids.tolist() == tiny_tokenizer().encode("The cat").ids


def test_a_config_without_padding_token_takes_the_tokenizers(tmp_path: Path) -> None:
    folder = tiny_encoder("modernbert", tmp_path / "model")
    edit_config(folder, pad_token_id=None)
    backbone = load(folder)
    assert backbone.pad_id == 1
    backbone.save_files(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["pad_token_id"] == 1


def test_a_plugin_can_bring_its_own_files(folder: Path) -> None:
    from mlclf.interfaces import BackboneSource

    class Packaged(BertBackbone):
        def locate(self) -> tuple[Path, BackboneSource]:
            return folder, BackboneSource(kind="package", name="acme-weights", revision="1.0")

    backbone = Packaged(BertOptions())
    backbone.load(LoadRequest())
    assert backbone.source().name == "acme-weights"


def test_the_source_is_unknown_before_loading() -> None:
    with pytest.raises(BackboneLoadError, match="Call load first"):
        BertBackbone(BertOptions()).source()
