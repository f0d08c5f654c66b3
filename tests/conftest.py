"""What every test shares: an offline, single-threaded process and one tiny model folder."""

from __future__ import annotations

import os

# Before torch, transformers or tokenizers are imported: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# What is loaded without a device would stand on a GPU, and round otherwise than what was fitted on the processor.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A process that a shell starts in the background ignores Ctrl-C, and mlclf with it; some tests send one.
signal.signal(signal.SIGINT, signal.default_int_handler)

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
