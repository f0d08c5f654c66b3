"""Every architecture with every built-in strategy, exported: what the table in docs/onnx.md says.

    python tests/export_matrix.py             # exports all, and writes the table into docs/onnx.md
    python tests/export_matrix.py qwen3 lora  # exports this row and this column anew, and keeps all other cells

Poolings, windows, depths of the head and sides of the padding take turns, so that each meets every architecture.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from export_kit import BottleneckOptions, fitted

from mlclf import (
    AdapterOptions,
    BceOptions,
    BertOptions,
    BitfitOptions,
    FeaturesOptions,
    FullOptions,
    HeadOnlyOptions,
    Ia3Options,
    LlmOptions,
    LoraOptions,
    PartialOptions,
)
from mlclf.backbones.pretrained import PretrainedOptions
from mlclf.onnx.export_report import ExportReport
from mlclf.testing import tiny_decoder, tiny_encoder

PAGE = Path(__file__).parent.parent / "docs" / "onnx.md"
BEGIN, END = "<!-- table of tests/export_matrix.py -->", "<!-- end of the table -->"

ENCODERS = {
    "bert": "BERT",
    "roberta": "RoBERTa",
    "distilbert": "DistilBERT",
    "deberta-v2": "DeBERTa-v2, v3",
    "modernbert": "ModernBERT",
    "xlm-roberta": "XLM-RoBERTa",
    "electra": "ELECTRA",
    "mpnet": "MPNet",
    "albert": "ALBERT",
}
DECODERS = {
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "mistral": "Mistral",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3",
    "phi3": "Phi-3",
    "glm": "GLM",
}
ARCHITECTURES = ENCODERS | DECODERS
STRATEGIES: dict[str, Any] = {
    "full": FullOptions(),
    "partial": PartialOptions(last_layers=1),
    "head-only": HeadOnlyOptions(),
    "features": FeaturesOptions(),
    "lora": LoraOptions(r=4),
    "lora (DoRA)": LoraOptions(r=4, use_dora=True),
    "lora (PiSSA)": LoraOptions(r=4, init="pissa"),
    "not mergeable": BottleneckOptions(),
    "adapter": AdapterOptions(kind="parallel"),
    "bitfit": BitfitOptions(),
    "ia3": Ia3Options(),
}
_POOLINGS = ("mean", "cls", "max", "attention")
_DECODER_POOLINGS = ("last", "mean", "max", "attention")
# Layers of ALBERT share their weights: there is no stack to take the last ones of, or to put something into.
IMPOSSIBLE = {("albert", "partial"), ("albert", "not mergeable")}
# Architectures without biases.
IMPOSSIBLE |= {
    (architecture, "bitfit")
    for architecture in ("modernbert", "llama", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3")
}
# What stays in the graph as operations.
UNMERGED = ("not mergeable", "adapter")


class Cell(NamedTuple):
    """One combination."""

    architecture: str
    strategy: str
    pooling: str
    window_stride: int | None
    hidden: tuple[int, ...]


def cells() -> list[Cell]:
    """Return every combination that can be fitted."""
    found = []
    for row, architecture in enumerate(ARCHITECTURES):
        for column, strategy in enumerate(STRATEGIES):
            if (architecture, strategy) in IMPOSSIBLE:
                continue
            pooling = (_DECODER_POOLINGS if architecture in DECODERS else _POOLINGS)[(row + column) % 4]
            if strategy == "features" and pooling == "attention":  # its vectors would not stay the same
                pooling = "mean"
            windows = None if (row + column // 4) % 2 else 4
            found.append(Cell(architecture, strategy, pooling, windows, (16,) if (row + column) % 3 == 0 else ()))
    return found


def run(cell: Cell, folder: Path) -> ExportReport:
    """Fit and export one combination; the export proves that it agrees."""
    from mlclf import register_strategy
    from mlclf.testing import tiny_texts

    if cell.strategy == "not mergeable":
        from export_kit import Bottleneck

        register_strategy(Bottleneck, "local:bottleneck")
    model = folder / cell.architecture
    text: dict[str, Any] = {"pooling": cell.pooling, "window_stride": cell.window_stride}
    if cell.architecture in ENCODERS:
        tiny_encoder(cell.architecture, model)  # type: ignore[arg-type]
        kind: type[PretrainedOptions] = BertOptions
    else:
        tiny_decoder(cell.architecture, model)  # type: ignore[arg-type]
        kind, text["padding_side"] = LlmOptions, "right" if cell.hidden else "left"
    clf = fitted(model, STRATEGIES[cell.strategy], kind, backbone=text, head=BceOptions(hidden=cell.hidden))
    report = clf.export_onnx(folder / "bundle", example_texts=tiny_texts(16), labels_output=True)
    assert report.parity.labels_changed == report.parity.labels_at_threshold
    return report


def table(changes: dict[str, dict[str, str]]) -> str:
    """Return the Markdown table."""
    lines = [f"| | {' | '.join(STRATEGIES)} |", "|---|" + "---|" * len(STRATEGIES)]
    for architecture, name in ARCHITECTURES.items():
        values = [changes[architecture].get(strategy, "–") for strategy in STRATEGIES]
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines)


def read_table() -> dict[str, dict[str, str]]:
    """Return the table of the page: for each architecture the largest change by strategy, as it is written there."""
    text = PAGE.read_text(encoding="utf-8")
    header, _, *rows = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip().splitlines()
    columns = header.strip("| ").split(" | ")
    named = {name: architecture for architecture, name in ARCHITECTURES.items()}
    cells_of = (row.strip("| ").split(" | ") for row in rows)
    return {named[name]: dict(zip(columns, values, strict=True)) for name, *values in cells_of}


def main() -> None:
    """Export everything, or the architectures that are named, and write the table."""
    import torch

    torch.set_num_threads(1)
    words = set(sys.argv[1:]) or set(ARCHITECTURES)
    changes = read_table()
    with tempfile.TemporaryDirectory() as folder:
        for cell in cells():
            if words & {cell.architecture, cell.strategy}:
                changes[cell.architecture][cell.strategy] = f"{run(cell, Path(folder)).parity.max_change:.0e}"
                print(cell, changes[cell.architecture][cell.strategy], flush=True)
    page = PAGE.read_text(encoding="utf-8")
    made = f"{BEGIN}\n{table(changes)}\n{END}"
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", made, page, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
