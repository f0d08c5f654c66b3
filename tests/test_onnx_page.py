"""The page on the exported folder is enough to read one: its program agrees, and it names every field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_kit import CALIBRATOR, TEXTS, make_manifest, write_folder

from mlclf.onnx import OnnxClassifier
from mlclf.onnx.entries import FileEntry
from mlclf.onnx.folder import ALLOWED, MANIFEST_NAME
from mlclf.onnx.manifest import TextRule
from mlclf.thresholds import Thresholds

PAGE = (Path(__file__).parent.parent / "docs" / "onnx_bundle.md").read_text(encoding="utf-8")
FREE = ("parity", "metrics", "versions", "files")  # fields whose content has other names in every folder


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"calibrator": CALIBRATOR, "thresholds": Thresholds.fixed(4, 0.3).limited(2)},
        {"text": TextRule(16, 4, "max", 0, "right"), "thresholds": Thresholds.top(1)},
        {"text": TextRule(16, 0, "mean", 0, "left"), "calibrator": CALIBRATOR},
    ],
    ids=["plain", "calibrated", "windows", "left"],
)
def test_program_of_the_page_agrees(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = write_folder(tmp_path / "model", **changes)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(code, "onnx_bundle.md", "exec"), namespace)
    texts = [*TEXTS, "typed [SEP] and [CLS]"]
    p, applies = namespace["predict"](str(folder), texts)
    clf = OnnxClassifier(folder, "cpu")
    np.testing.assert_allclose(p, clf.predict_proba(texts), atol=1e-6)
    np.testing.assert_array_equal(applies, clf.predict(texts))


def names(document: dict[str, Any]) -> Iterator[str]:
    for name, value in document.items():
        yield name
        if isinstance(value, dict) and name not in FREE:
            yield from names(value)


def test_page_names_every_field_and_file() -> None:
    document = make_manifest(calibrator=CALIBRATOR).to_json()
    fields = [*names(document), *FileEntry.__dataclass_fields__]
    assert [name for name in fields if f"`{name}`" not in PAGE] == []
    assert [name for name in (*ALLOWED, MANIFEST_NAME) if name not in PAGE] == []
