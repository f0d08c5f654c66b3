"""Comparing: backbones, strategies and heads fitted on the same rows, several seeds each, side by side.

:func:`compare` does it; ``mlclf compare`` is the same from the command line.
"""

from mlclf.comparing.comparison import Comparison, compare
from mlclf.comparing.rows import ComparedRows, read_rows

__all__ = ["ComparedRows", "Comparison", "compare", "read_rows"]
