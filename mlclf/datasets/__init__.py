"""Data sets: readers for JSON Lines, CSV and Parquet, and a made corpus to try things on."""

from __future__ import annotations

from mlclf.datasets.dataset import Dataset, LabelRow
from mlclf.datasets.feedback import make_feedback
from mlclf.datasets.jsonl import load_jsonl
from mlclf.datasets.parquet import load_parquet
from mlclf.datasets.reading import load
from mlclf.datasets.table import load_csv
from mlclf.datasets.writing import json_line, save_jsonl, write_jsonl

__all__ = [
    "Dataset",
    "LabelRow",
    "json_line",
    "load",
    "load_csv",
    "load_jsonl",
    "load_parquet",
    "make_feedback",
    "save_jsonl",
    "write_jsonl",
]
