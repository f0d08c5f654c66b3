"""``report.to_html``: one file that needs nothing else, shows what was measured, and takes texts as texts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from toy import toy_classifier, toy_rows
from typer.testing import CliRunner

from mlclf.cli.app import app
from mlclf.exceptions import InvalidInputError, OptionsError
from mlclf.labels import LabelSpace, Targets
from mlclf.metrics import score
from mlclf.report import Report
from mlclf.report_details import make_details
from mlclf.report_page import page
from mlclf.thresholds import Thresholds

HOSTILE = """<script>alert("x")</script>'&<img src=x onerror=y></pre></svg></style>]]>\x1b[31m\x00\ud800"""
RTL = "שמחה \u202eגדולה"


def made(
    n: int = 60, n_labels: int = 5, *, seed: int = 0, unknown: float = 0.0, top_k: int | None = None
) -> tuple[np.ndarray, Targets, Thresholds]:
    """Probabilities of a model that knows something, with their truth."""
    random = np.random.default_rng(seed)
    truth = (random.random((n, n_labels)) < 0.4).astype(np.int8)
    p = np.clip(0.4 * truth + 0.6 * random.random(truth.shape), 0, 1).astype(np.float32)
    gaps = (random.random(truth.shape) < unknown) & (truth == 0)
    targets = Targets(csr_array(truth), csr_array(gaps) if unknown else None)
    return p, targets, Thresholds(np.full(n_labels, 0.5, dtype=np.float32), top_k, "fixed")


def made_report(n_labels: int = 5, *, names: Any = None, texts: Any = None, error_texts: int = 0) -> Report:
    p, targets, thresholds = made(n_labels=n_labels)
    details = make_details(p, targets, thresholds, texts=texts, error_texts=error_texts)
    return replace(score(p, targets, thresholds, names=names), details=details)


class Elements(HTMLParser):
    """The elements of a page, and the text outside of style and script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open[-1:]):
            self.text += data


class TestCounts:
    @given(st.integers(0, 999), st.booleans())
    def test_curves_are_what_the_report_says_at_a_threshold(self, seed: int, sparse: bool) -> None:
        p, targets, _ = made(seed=seed, unknown=0.2)
        form = csr_array(np.where(p > 0.3, p, 0)) if sparse else p
        curves = make_details(form, targets, Thresholds.fixed(5)).curves
        report = score(form, targets, Thresholds.fixed(5, 0.35))
        at = int(np.flatnonzero(np.isclose(curves.grid, 0.35))[0])
        order = np.argsort(curves.columns)
        assert curves.predicted[order, at].tolist() == report.tuned.labels.predicted.tolist()
        assert curves.positives[order].tolist() == report.support.tolist()
        recall = curves.hits[order, at] / np.maximum(curves.positives[order], 1)
        assert recall == pytest.approx(report.tuned.labels.recall)
        assert curves.all_hits[at] / curves.all_predicted[at] == pytest.approx(report.tuned.micro.precision)

    @given(st.integers(0, 999), st.booleans(), st.sampled_from([None, 1, 2]))
    def test_pairs_and_errors_are_those_of_a_loop_over_all_cells(
        self, seed: int, sparse: bool, top_k: int | None
    ) -> None:
        p, targets, thresholds = made(12, 4, seed=seed, unknown=0.3, top_k=top_k)
        form = csr_array(np.where(p > 0.55, p, 0)) if sparse else p
        details = make_details(form, targets, thresholds)
        dense = form.toarray() if sparse else p
        truth, known = targets.dense(np.arange(12))
        chosen = thresholds.apply(dense) & (True if known is None else known)
        columns = details.overlap.columns
        expected = np.zeros((4, 4), dtype=int)
        costs = np.zeros(12)
        for i in range(12):
            for a in range(4):
                wrong = chosen[i, a] != (truth[i, a] > 0)
                if wrong:
                    costs[i] -= np.log(max(1e-7, dense[i, a] if truth[i, a] else 1 - dense[i, a]))
                for b in range(4):
                    missed = truth[i, a] > 0 and not chosen[i, a]
                    expected[a, b] += missed and bool(chosen[i, b]) and truth[i, b] == 0
        assert details.overlap.confused.tolist() == expected[np.ix_(columns, columns)].tolist()
        assert details.overlap.together.tolist() == (truth.T @ truth)[np.ix_(columns, columns)].tolist()
        found = {row.row: row.cost for row in details.errors}
        assert found == pytest.approx({i: cost for i, cost in enumerate(costs) if cost > 0}, rel=1e-5)
        assert sorted(found.values(), reverse=True) == list(found.values())

    def test_calibration_bins_give_the_error_of_the_report(self) -> None:
        report = made_report()
        assert report.details is not None
        assert report.details.reliability.error == report.ranking.calibration_error
        assert report.details.reliability.cells.sum() == 60 * 5

    def test_details_are_bounded_whatever_the_number_of_labels(self) -> None:
        n_labels = 20_000
        random = np.random.default_rng(0)
        rows, columns = np.repeat(np.arange(300), 50), random.integers(0, n_labels, 300 * 50)
        p = csr_array((random.random(len(rows)).astype(np.float32) / 4, (rows, columns)), shape=(300, n_labels))
        truth = csr_array((np.ones(300, dtype=np.int8), (np.arange(300), columns[::50])), shape=(300, n_labels))
        details = make_details(p, Targets(truth), Thresholds.fixed(n_labels))
        assert details.curves.predicted.shape == (200, 101)
        assert details.overlap.confused.shape == (200, 200)
        assert details.kept_cells == int(np.diff(p.indptr).max())


class TestTexts:
    def test_they_are_kept_only_when_asked_for(self) -> None:
        texts = [f"text {i}" for i in range(60)]
        silent, asked = made_report(texts=texts), made_report(texts=texts, error_texts=3)
        assert silent.details is not None
        assert asked.details is not None
        assert len(silent.details.errors) == 20
        assert {row.text for row in silent.details.errors} == {None}
        assert [row.text for row in asked.details.errors] == [f"text {row.row}" for row in silent.details.errors[:3]]
        assert "error_texts=20" in Elements(page(silent)).text
        assert "error_texts=20" not in Elements(page(asked)).text

    def test_long_ones_are_cut_and_say_so(self) -> None:
        report = made_report(texts=["word " * 1000] * 60, error_texts=1)
        assert report.details is not None
        assert report.details.errors[0].cut
        assert len(str(report.details.errors[0].text)) == 1000
        assert "[…]" in Elements(page(report)).text

    def test_a_number_that_is_none_or_texts_that_are_too_few_are_refused(self) -> None:
        p, targets, thresholds = made()
        with pytest.raises(OptionsError, match="error_texts must be a number"):
            make_details(p, targets, thresholds, error_texts=-1)
        with pytest.raises(InvalidInputError, match="a text for each of 60 rows, got 2"):
            make_details(p, targets, thresholds, texts=["a", "b"], error_texts=1)


class TestPage:
    def test_hostile_names_and_texts_are_text(self) -> None:
        report = made_report(names=[HOSTILE, RTL, "'", '"', "&lt;"], texts=[HOSTILE] * 60, error_texts=5)
        elements = Elements(page(report))
        assert [tag for tag, _ in elements.found if tag in ("script", "img", "iframe")] == ["script"]
        assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
        assert """<script>alert("x")</script>'&<img src=x onerror=y></pre></svg></style>]]>""" in elements.text
        assert r"\x1b[31m\x00\ud800" in elements.text
        assert "\x1b" not in elements.text
        # A name that is written from right to left turns nothing round but itself.
        assert f"<bdi>{RTL}</bdi>" in page(report)

    def test_page_loads_nothing_and_runs_its_own_script_alone(self) -> None:
        html = page(made_report(texts=["x"] * 60, error_texts=2))
        elements = Elements(html)
        assert not any({"src", "xlink:href"} & set(attributes) for _, attributes in elements.found)
        links = [attributes["href"] for _, attributes in elements.found if "href" in attributes]
        assert all(str(link).startswith("#") for link in links)
        policy = next(attributes["content"] for _, attributes in elements.found if "http-equiv" in attributes)
        (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"

    def test_every_chart_is_xml_that_says_what_it_shows(self) -> None:
        html = page(made_report(names=[HOSTILE, RTL, "c", "d", "e"]))
        charts = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
        assert len(charts) == 1 + 5 + 1
        for chart in charts:
            root = ElementTree.fromstring(chart)
            title, description = (element.text for element in list(root)[:2])
            assert title
            assert description

    def test_links_lead_to_charts(self) -> None:
        elements = Elements(page(made_report(30)))
        ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
        links = [str(attributes["href"])[1:] for tag, attributes in elements.found if tag == "a"]
        assert len(ids) == len(set(ids))
        assert len(links) == 30
        assert set(links) <= set(ids)

    def test_figures_are_those_of_the_report(self) -> None:
        report = made_report(names=["a", "b", "c", "d", "e"])
        text = Elements(page(report)).text
        assert f"{report.micro_f1:.3f}" in text
        assert report.policy.describe() in text
        assert f"support {report.support[0]:,}; at 0.500: precision {report.tuned.labels.precision[0]:.3f}" in text

    def test_thousand_labels_are_all_in_the_table_and_the_file_stays_small(self) -> None:
        html = page(made_report(1000))
        assert html.count('<th class="name" scope="row">') == 1000 + 2 * 20
        assert html.count('<figure id="curve-') == 200
        assert len(html) < 2_500_000

    def test_report_without_details_says_how_to_get_them(self) -> None:
        p, targets, thresholds = made()
        text = Elements(page(score(p, targets, thresholds))).text
        assert "This report holds figures only" in text
        assert "clf.evaluate(X, Y)" in text

    @pytest.mark.parametrize(
        ("labels", "p"),
        [([[], []], [[0.1, 0.9], [0.2, 0.1]]), ([["a"], ["b"]], [[1.0, 0.0], [0.0, 1.0]])],
        ids=["no label applies", "nothing is wrong"],
    )
    def test_page_of_an_odd_report_is_a_page(self, labels: Any, p: Any) -> None:
        targets = LabelSpace(("a", "b")).encode(labels)
        details = make_details(p, targets, Thresholds.fixed(2))
        elements = Elements(page(replace(score(p, targets, Thresholds.fixed(2)), details=details)))
        assert "Most costly errors" in elements.text
        assert "nan" not in elements.text.lower()

    def test_cells_that_nobody_knows_and_a_limit_are_told_of(self) -> None:
        p, targets, thresholds = made(unknown=0.3, top_k=1)
        report = replace(score(p, targets, thresholds), details=make_details(p, targets, thresholds))
        text = Elements(page(report)).text
        assert "unknown cells" in text
        assert "The limit on the labels of a row is not applied here." in text

    def test_sparse_probabilities_are_told_of(self) -> None:
        p, targets, thresholds = made()
        details = make_details(csr_array(np.where(p > 0.5, p, 0)), targets, thresholds)
        assert "most probable labels of each text" in Elements(page(replace(made_report(), details=details))).text

    @pytest.mark.skipif(shutil.which("node") is None, reason="needs node to read the script")
    def test_script_is_valid(self, tmp_path: Path) -> None:
        (script,) = re.findall(r"<script>(.*?)</script>", page(made_report()), re.DOTALL)
        (tmp_path / "page.js").write_text(script)
        subprocess.run(["node", "--check", str(tmp_path / "page.js")], check=True)


class TestFile:
    def test_folders_above_are_made_and_a_file_is_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "report.html"
        for _ in range(2):
            made_report().to_html(path)
        assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")

    def test_a_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(OptionsError, match="is a folder"):
            made_report().to_html(tmp_path)

    def test_evaluate_of_a_fitted_model_holds_everything(self, tiny_bert: Path, tmp_path: Path) -> None:
        texts, labels = toy_rows()
        classifier = toy_classifier(tiny_bert, epochs=1).fit(texts, labels)
        with pytest.raises(OptionsError, match="error_texts"):
            classifier.evaluate(texts, labels, error_texts=1.5)
        report = classifier.evaluate(texts, labels, error_texts=2)
        report.to_html(tmp_path / "report.html")
        assert report.details is not None
        assert report.details.errors[0].text in texts
        data = tmp_path / "rows.jsonl"
        rows = zip(texts, labels, strict=True)
        data.write_text("".join(json.dumps({"text": text, "labels": row}) + "\n" for text, row in rows))
        classifier.save(tmp_path / "model", include_backbone=True)
        page_file = tmp_path / "command.html"
        done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "model"), str(data), "--html", str(page_file)])
        assert done.exit_code == 0, done.output
        assert report.details.errors[0].text in Elements(page_file.read_text(encoding="utf-8")).text
