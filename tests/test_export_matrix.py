"""The table of what can be exported: complete, and true."""

from __future__ import annotations

from pathlib import Path

import pytest
from export_matrix import ARCHITECTURES, IMPOSSIBLE, PAGE, STRATEGIES, UNMERGED, Cell, cells, read_table, run

from mlclf.plugins import resolve
from mlclf.plugins.builtins import BUILTINS

# Run always: a merged update, one without a form of plain weights, an architecture with attention of its own, and
# causal models.
FEW = [
    ("bert", "lora (DoRA)"),
    ("distilbert", "not mergeable"),
    ("deberta-v2", "partial"),
    ("qwen3", "lora"),
    ("phi3", "adapter"),
]

# Exported by tests/test_strategies_virtual.py and tests/test_strategies_qlora.py, on an encoder and on a causal model.
ELSEWHERE = {"prefix", "p-tuning-v2", "p-tuning", "prompt-tuning", "qlora"}


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, marks=[] if (cell.architecture, cell.strategy) in FEW else pytest.mark.slow)
        for cell in cells()
    ],
    ids=lambda cell: f"{cell.architecture}-{cell.strategy}-{cell.pooling}-{cell.window_stride}",
)
def test_export_agrees(cell: Cell, tmp_path: Path) -> None:
    report = run(cell, tmp_path)
    assert report.parity.max_change < 1e-4
    assert report.merged == (cell.strategy not in UNMERGED)


def test_every_builtin_strategy_has_a_column() -> None:
    columns = {name.partition(" ")[0] for name in STRATEGIES}
    assert {spec.name for spec in BUILTINS["strategy"]} <= columns | ELSEWHERE


def test_strategies_that_are_exported_elsewhere_stand_in_a_table_of_their_own() -> None:
    text = PAGE.read_text(encoding="utf-8")
    _, _, below = text.partition("<!-- table of ELSEWHERE in tests/test_export_matrix.py -->\n")
    lines = below.partition("\n\n")[0].splitlines()[2:]
    rows = {name.strip("` "): how.strip() for name, how, _ in (line.strip("|").split("|") for line in lines)}
    assert set(rows) == ELSEWHERE
    for name, how in rows.items():
        capabilities = resolve("strategy", name)[1].capabilities
        assert capabilities.export
        assert how.startswith("not merged" if capabilities.merge == "no" else "merged"), name


def test_table_of_the_page_has_every_combination() -> None:
    found = read_table()
    assert list(found) == list(ARCHITECTURES)
    for architecture, row in found.items():
        assert list(row) == list(STRATEGIES)
        for strategy, value in row.items():
            if (architecture, strategy) in IMPOSSIBLE:
                assert value == "–"
            else:
                assert float(value) < 1e-4
