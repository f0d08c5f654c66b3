"""The table and the page of a comparison."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from comparing_kit import HOSTILE, ROWS, cell, comparison, result
from hypothesis import given
from hypothesis import strategies as st

from mlclf.charts.axis import Axis
from mlclf.comparing.comparison import Run
from mlclf.comparing.matrix import Refusal
from mlclf.comparing.page import page
from mlclf.comparing.plots import PLOTS, svg
from mlclf.comparing.table import columns, summarise


class TestTable:
    def test_seeds_become_mean_and_sample_standard_deviation_best_first(self) -> None:
        rows = summarise([(cell("a"), 0, result(0.4)), (cell("b"), 0, result(0.5)), (cell("b"), 1, result(0.6))])
        assert [(row.number, row.cell.strategy, row.seeds) for row in rows] == [(1, "b", (0, 1)), (2, "a", (0,))]
        table = dict(columns(rows))
        assert table["micro-F1"] == ["0.550 ± 0.071", "0.400"]
        assert table["peak MiB"] == ["500", "500"]
        assert table["trainable"] == ["1 %", "1 %"]
        assert "backbone" not in table
        assert "GPU MiB" not in table

    def test_what_auto_stood_for_is_shown(self) -> None:
        rows = summarise([(cell("auto"), 0, result(choice={"strategy": "lora"}))])
        assert dict(columns(rows))["strategy"] == ["auto → lora"]


class Elements(HTMLParser):
    """Collects elements and their attributes, and sees that each is closed."""

    EMPTY = frozenset({"meta", "line", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


class TestPage:
    def test_hostile_names_are_text(self) -> None:
        hostile = cell(HOSTILE, backbone=HOSTILE, head=HOSTILE)
        found = comparison(
            Run(hostile, 0, result()),
            Run(cell(), 0, result(0.2)),
            refused=(Refusal(HOSTILE, HOSTILE),),
            failed=(Refusal(HOSTILE, HOSTILE),),
        )
        elements = Elements(page(replace(found, rows=replace(ROWS, source=HOSTILE))))
        assert not {"script", "img"} & {tag for tag, _ in elements.found}
        assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
        assert HOSTILE in elements.text

    def test_page_loads_nothing(self) -> None:
        elements = Elements(page(comparison(Run(cell(), 0, result()))))
        assert not {"link", "script", "img", "iframe", "a"} & {tag for tag, _ in elements.found}
        assert not any({"src", "href", "xlink:href"} & set(attributes) for _, attributes in elements.found)
        policy = next(attributes for _, attributes in elements.found if "http-equiv" in attributes)
        assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
        assert "url(" not in elements.text
        assert "@import" not in elements.text

    def test_page_says_how_it_was_measured(self) -> None:
        text = Elements(page(comparison(Run(cell(), 0, result()), Run(cell(), 1, result(0.7))))).text
        assert "0.600 ± 0.141" in text
        assert "nothing was tuned on them" in text
        assert "60 training and 20 test rows" in text
        assert "torch" in text

    def test_page_without_a_finished_run_is_a_page(self) -> None:
        assert "No run has finished." in Elements(page(comparison(failed=(Refusal("x", "y"),)))).text

    @pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
    def test_plot_is_xml_with_a_title_a_description_and_a_point_for_each_cell(self, plot: Any) -> None:
        runs = [(cell(HOSTILE), 0, result(0.4, share=0.0)), (cell("b"), 0, result(0.5)), (cell("b"), 1, result(0.6))]
        root = ElementTree.fromstring(svg(plot, summarise(runs)))
        ids = root.attrib["aria-labelledby"].split()
        assert [next(e for e in root if e.get("id") == name).tag for name in ids] == ["title", "desc"]
        points = [element for element in root if element.get("class", "").startswith("point")]
        assert sorted(str(point.findall("text")[-1].text) for point in points) == ["1", "2"]
        assert len([line for point in points for line in point.findall("line")]) == 1  # spread of two seeds


@given(st.lists(st.floats(0, 1e7, allow_subnormal=False), min_size=1, max_size=9), st.sampled_from([None, False]))
def test_axis_has_room_for_all_values_and_ascending_ticks(values: list[float], logarithmic: bool | None) -> None:
    values = [0.0 if value < 1e-6 else value for value in values]
    axis = Axis.over(values, logarithmic=logarithmic)
    places = [axis.place(value) for value in values]
    assert all(0 <= place <= 1 for place in places)
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert [p for _, p in sorted(zip(values, places, strict=True))] == sorted(places)
    assert axis.place(axis.ticks[0]) == pytest.approx(0)
    assert axis.place(axis.ticks[-1]) == pytest.approx(1)
