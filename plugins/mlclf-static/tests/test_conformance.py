"""The plugin static keeps the rules of the conformance kit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from mlclf_static.file import StaticOptions
from mlclf_static.hashed import HashedOptions
from safetensors.torch import save_file

from mlclf.testing import Check, parametrize_plugin_checks, project_manager, tiny_tokenizer


def static_folder() -> str:
    """Write a folder of random vectors, as model2vec would; it lasts as long as the process."""
    tokenizer = tiny_tokenizer()
    vectors = torch.randn(tokenizer.get_vocab_size(), 16, generator=torch.Generator().manual_seed(0))
    save_file({"embeddings": vectors}, Path(FOLDER.name) / "model.safetensors")
    tokenizer.save(f"{FOLDER.name}/tokenizer.json")
    return FOLDER.name


FOLDER = tempfile.TemporaryDirectory()
SMALL = {
    "static:file": StaticOptions(model=static_folder(), max_length=32),
    "static:hashed": HashedOptions(buckets=1024, hidden=8, max_length=32),
}


@parametrize_plugin_checks("static", options=SMALL, manager=project_manager(Path(__file__).parents[1]))
def test_plugin_follows_the_rules(check: Check) -> None:
    check()
