"""``mlclf merge``: a saved model's backbone as a folder that transformers and serving engines load."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlclf.cli.options import ModelArgument
from mlclf.cli.output import messages_to_stderr, results_only


class WeightType(StrEnum):
    """Of the written weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def merge(
    model: ModelArgument,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder to write.")],
    dtype: Annotated[WeightType, typer.Option(help="Of the written weights.")] = WeightType.float32,
) -> None:
    """Write a model's merged backbone, for transformers and serving engines such as vLLM."""
    with results_only() as results, messages_to_stderr(logging.WARNING):
        from mlclf import MultiLabelClassifier

        MultiLabelClassifier.load(model, device="cpu").merge_and_save(folder, dtype=dtype.value)
        results.write(f"{folder}\n")
