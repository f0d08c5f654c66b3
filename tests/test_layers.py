"""Imports point down, and what a server needs starts without the training libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mlclf"

# The levels of docs/architecture.md, lowest first: a module imports from lower levels, or beside itself as long as
# no circle arises.
LEVELS: list[set[str]] = [
    {"_version", "control_groups", "exceptions", "hints"},
    {
        "augmentation",
        "batch_rows",
        "calibration",
        "charts",
        "datasets",
        "decision_metrics",
        "decisions",
        "encoding",
        "files",
        "global_threshold",
        "label_cells",
        "label_forms",
        "label_names",
        "label_rows",
        "labels",
        "metrics",
        "model_selection",
        "options",
        "probabilities",
        "prompts",
        "quick_metrics",
        "ranked_cells",
        "ranking_metrics",
        "replay",
        "reliability",
        "report",
        "report_details",
        "report_page",
        "report_text",
        "rows",
        "scorers",
        "targets",
        "texts",
        "threshold_tuning",
        "thresholds",
        "uses",
    },
    {
        "direct_linear",
        "interfaces",
        "linear_layers",
        "losses",
        "matrix_products",
        "packed_weight",
        "plugins",
        "quantized",
        "timing",
    },
    {"batching"},
    {"backbones", "calibrators", "heads", "strategies"},
    {"assembly", "chaining", "inference", "matching", "network", "parts", "skeleton", "training", "ways_out"},
    {"choosing", "model", "strategy_table"},
    {"bundle", "continual", "fitting", "merged_folder", "onnx"},
    {
        "classifier",
        "compatibility",
        "estimator_params",
        "exporting",
        "inputs",
        "multitask",
        "predictions",
        "pretraining",
        "testing",
        "updating",
        "zero_shot",
    },
    {"comparing"},
    {"__init__"},
    {"cli"},
]
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}
COMPONENTS, INTERFACES = 4, 2

# Modules that must start without the libraries below.
LIGHT = [
    "mlclf",
    "mlclf.exceptions",
    "mlclf.options",
    "mlclf.augmentation",
    "mlclf.augmentation.techniques",
    "mlclf.texts",
    "mlclf.encoding",
    "mlclf.targets",
    "mlclf.labels",
    "mlclf.thresholds",
    "mlclf.calibration",
    "mlclf.report",
    "mlclf.metrics",
    "mlclf.model_selection",
    "mlclf.datasets",
    "mlclf.plugins",
    "mlclf.prompts",
    "mlclf.bundle.manifest",
    "mlclf.onnx",
    "mlclf.onnx.session",
    "mlclf.testing",
    "mlclf.cli.app",
]
HEAVY = ["torch", "transformers", "peft", "sklearn"]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if "templates" not in path.parts}


def unit(module: str) -> str:
    """The name in LEVELS that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported_modules(path: Path) -> dict[str, int]:
    """Modules of this package that a file imports anywhere, with the line of the import."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [resolve(node.module, alias.name) for alias in node.names]
        else:
            continue
        found.update({name: node.lineno for name in names if name.split(".")[0] == "mlclf"})
    return found


def resolve(module: str, name: str) -> str:
    """``from a.b import c``: a.b.c where that is a module, else a.b."""
    return f"{module}.{name}" if f"{module}.{name}" in MODULES else module


def imports_at_start(path: Path) -> set[str]:
    """Modules of this package that a file imports when it is imported itself."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mlclf":
            found |= {resolve(node.module, alias.name) for alias in node.names}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_level(module: str) -> None:
    assert unit(module) in LEVEL_OF, f"{module} stands in no level: add it to LEVELS and to docs/architecture.md"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    level = LEVEL_OF[unit(module)]
    wrong = [
        f"{MODULES[module]}:{line} imports {name} (level {LEVEL_OF[unit(name)]}) from level {level}"
        for name, line in imported_modules(MODULES[module]).items()
        if LEVEL_OF[unit(name)] > level
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", [m for m in MODULES if unit(m) in LEVELS[COMPONENTS]])
def test_built_in_components_import_what_a_plugin_may_import(module: str) -> None:
    wrong = [
        f"{MODULES[module]}:{line} imports {name}"
        for name, line in imported_modules(MODULES[module]).items()
        if (LEVEL_OF[unit(name)] > INTERFACES or unit(name) == "plugins") and unit(name) != unit(module)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_circle_of_imports() -> None:
    graph = {module: imports_at_start(path) & set(MODULES) - {module} for module, path in MODULES.items()}
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_leave_training_libraries_out(module: str) -> None:
    assert loaded_by(f"import {module}") == []


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"]])
def test_command_line_starts_without_training_libraries(arguments: list[str]) -> None:
    assert loaded_by(f"from mlclf.cli.app import main; run(main, {['mlclf', *arguments]})") == []


def loaded_by(statement: str) -> list[str]:
    """The heavy libraries in ``sys.modules`` of a fresh process after a statement."""
    program = f"""
import sys
def run(main, arguments):
    sys.argv = arguments
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, stop.code
{statement}
print("HEAVY", *[name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1].split()[1:]
