"""README.md of an exported folder: what the model is, how good it was, and how to use it."""

from __future__ import annotations

from mlclf.onnx.manifest import OnnxManifest

# A list of a hundred thousand labels helps nobody.
_LISTED = 200

_TEXT = """\
# Multi-label text classifier

Backbone `{backbone}`, strategy `{strategy}`, head `{head}`; exported by mlclf {mlclf}.
ONNX in {precision}, opset {opset}.

## Use

```bash
pip install "mlclf[onnx]"     # or mlclf[onnx-gpu]; neither torch nor transformers is needed
```

```python
from mlclf.onnx import OnnxClassifier

model = OnnxClassifier("path/to/this/folder")
print(model.predict_labels(["a text", "another one"]))
print(model.predict_proba(["a text"]))
```

Programs in other languages: `manifest.json` says how texts are cut, padded and aggregated, and holds the thresholds.

## Labels

{labels}

## Quality

{metrics}
Against the fitted model on {rows} texts: probabilities differ by at most {change:.1e},
{changed} of {cells} labels differ.
"""


def readme(manifest: OnnxManifest) -> str:
    """Return the text of ``README.md``.

    Parameters
    ----------
    manifest : OnnxManifest
        With its measured parity.

    Returns
    -------
    str
        Markdown.
    """
    parity = manifest.parity
    return _TEXT.format(
        backbone=manifest.model.backbone,
        strategy=manifest.model.strategy,
        head=manifest.model.head,
        mlclf=manifest.mlclf,
        precision=manifest.graph.precision,
        opset=manifest.graph.opset,
        labels=_labels(manifest),
        metrics=_metrics(manifest),
        rows=parity["n_rows"],
        change=parity["max_change"],
        changed=parity["labels_changed"],
        cells=parity["n_cells"],
    )


def _labels(manifest: OnnxManifest) -> str:
    values = manifest.thresholds.for_labels(len(manifest.labels)).values
    rows = [f"| {_cell(name)} | {value:.4f} |" for name, value in zip(manifest.labels, values, strict=True)]
    shown = ["| label | threshold |", "|---|---|", *rows[:_LISTED]]
    if len(rows) > _LISTED:
        shown.append(f"\nand {len(rows) - _LISTED} more: see `manifest.json`.")
    if manifest.thresholds.top_k is not None:
        shown.append(f"\nA text has at most {manifest.thresholds.top_k} labels, the most probable ones.")
    return "\n".join(shown)


def _cell(name: str | int) -> str:
    """Return a label as the content of a table's cell: names are data, and may hold anything."""
    shown = str(name).replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`").replace("<", "&lt;")
    return " ".join(shown.split())


def _metrics(manifest: OnnxManifest) -> str:
    """Return the figures on validation rows, where there are any."""
    numbers = {name: value for name, value in manifest.metrics.items() if isinstance(value, float)}
    if not numbers:
        return "Nothing was measured on validation rows.\n"
    rows = [f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in numbers.items()]
    return "\n".join(["On the validation rows of the fit:", "", "| figure | value |", "|---|---|", *rows]) + "\n"
