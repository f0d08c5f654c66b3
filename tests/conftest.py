"""What every test shares: an offline, single-threaded process and one tiny model folder."""

from __future__ import annotations

import os

# Before torch, transformers or tokenizers are imported: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from pathlib import Path

import pytest
from hypothesis import settings

# No test is timed: a busy machine is no error.
settings.register_profile("mlclf", deadline=None)
settings.load_profile("mlclf")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a two-layer BERT of random weights and its tokenizer; never write into it."""
    from mlclf.testing import tiny_encoder

    folder = tmp_path_factory.mktemp("models") / "bert"
    tiny_encoder("bert", folder)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked gpu where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or _cuda_available():
        return
    for item in marked:
        item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _cuda_available() -> bool:
    import torch

    return torch.cuda.is_available()
