"""What an export did and what its proof measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlclf.onnx.entries import Base, Precision
from mlclf.onnx.parity import ALLOWED, Parity


@dataclass(frozen=True)
class Figures:
    """Quality on validation rows.

    Parameters
    ----------
    micro_f1, macro_f1 : float
    """

    micro_f1: float
    macro_f1: float


@dataclass(frozen=True)
class ValidationFigures:
    """Quality before and after, on the same validation rows.

    Parameters
    ----------
    n_samples : int
    fitted : Figures
        Of the fitted model with its thresholds.
    exported : Figures
        Of the exported model with the same thresholds.
    tuned_again : Figures or None
        Of the exported model with thresholds tuned on its own probabilities for these rows, which the folder then
        has; None where thresholds were left alone: because the exported model answers as the fitted one, or because
        the fitted thresholds were not tuned.
    """

    n_samples: int
    fitted: Figures
    exported: Figures
    tuned_again: Figures | None


@dataclass(frozen=True)
class ExportReport:
    """Result of an export.

    Parameters
    ----------
    folder : Path
        What was written.
    precision : {"fp32", "fp16", "int8"}
    opset : int
    merged : bool
        Whether the strategy's changes are part of plain weights; else they are operations of the graph.
    size : int
        Bytes of the graph with its weights.
    parity : Parity
        Differences to the fitted model.
    validation : ValidationFigures or None
        None where no validation data were given.
    seconds : float
        Time of the whole export.
    base : {"fitted", "original"}
        Whether pretrained weights that were rounded for training stayed rounded; differences are then to the fitted
        model, else to one with the original weights.

    Examples
    --------
    >>> parity = Parity(24, 2.1e-7, 3e-8, 1.2e-7, 96, 0, 0)
    >>> print(ExportReport(Path("bundle"), "fp32", 20, True, 91_000_000, parity, None, 21.5))
    Exported to bundle: fp32, opset 20, 91.0 MB, merged, in 22 s.
    Against torch on 24 texts: probabilities differ by at most 2.1e-07 (3.0e-08 on average, allowed 1.0e-04);
    0 of 96 labels differ. Alone or in a batch, a text's probabilities differ by at most 1.2e-07.
    """

    folder: Path
    precision: Precision
    opset: int
    merged: bool
    size: int
    parity: Parity
    validation: ValidationFigures | None
    seconds: float
    base: Base = "fitted"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return {**asdict(self), "folder": str(self.folder), "parity": self.parity.to_json(self.precision)}

    def __str__(self) -> str:
        merged = "merged" if self.merged else "not merged"
        lines = [
            f"Exported to {self.folder}: {self.precision}, opset {self.opset}, {self.size / 1e6:.1f} MB, {merged}, "
            f"in {self.seconds:.0f} s.",
            *self._parity(),
        ]
        if self.base == "original":
            lines.append("The original pretrained weights were exported, which answer otherwise than the rounded ones.")
        return "\n".join(lines if self.validation is None else [*lines, *_quality(self.validation)])

    def _parity(self) -> list[str]:
        parity, allowed = self.parity, ALLOWED[self.precision]
        at_threshold = parity.labels_at_threshold
        close = f", {at_threshold} of them with a probability at the threshold" if at_threshold else ""
        return [
            f"Against torch on {parity.n_rows} texts: probabilities differ by at most {parity.max_change:.1e} "
            f"({parity.mean_change:.1e} on average, allowed {allowed.largest:.1e});",
            f"{parity.labels_changed} of {parity.n_cells} labels differ{close}. Alone or in a batch, a text's "
            f"probabilities differ by at most {parity.batch_change:.1e}.",
        ]


def _quality(validation: ValidationFigures) -> list[str]:
    rows = [("fitted model", validation.fitted), ("exported", validation.exported)]
    if validation.tuned_again is not None:
        rows.append(("exported, thresholds tuned again", validation.tuned_again))
    lines = [f"F1 on {validation.n_samples} validation texts (micro, macro):"]
    return lines + [f"  {name:<34}{figures.micro_f1:.4f}  {figures.macro_f1:.4f}" for name, figures in rows]
