"""Folders are replaced whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlclf.files import replace_folder, sha256


def test_a_new_folder_appears_with_its_content(tmp_path: Path) -> None:
    with replace_folder(tmp_path / "deep" / "new") as work:
        (work / "a.txt").write_text("a")
        assert not (tmp_path / "deep" / "new").exists()
    assert (tmp_path / "deep" / "new" / "a.txt").read_text() == "a"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=st.binary(max_size=50), new=st.binary(max_size=50), fails=st.booleans())
def test_the_old_folder_stays_unless_the_block_succeeds(tmp_path: Path, old: bytes, new: bytes, fails: bool) -> None:
    target = tmp_path / "folder"
    with replace_folder(target) as work:
        (work / "data").write_bytes(old)
    try:
        with replace_folder(target) as work:
            (work / "data").write_bytes(new)
            if fails:
                raise OSError(28, "No space left on device")
    except OSError:
        assert fails
    assert (target / "data").read_bytes() == (old if fails else new)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_failing_swap_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "folder"
    with replace_folder(target) as work:
        (work / "data").write_text("old")
    original = Path.rename

    def rename(path: Path, to: Path) -> Path:
        if path.name == "new":
            raise OSError("cannot rename")
        return original(path, to)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="cannot rename"), replace_folder(target) as work:
        (work / "data").write_text("new")
    assert (target / "data").read_text() == "old"


def test_checksums_are_those_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
