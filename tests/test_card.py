"""The model card: facts for the hub and for people, which no loading depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from toy import toy_classifier, toy_rows

from mlclf import CardFacts, MultiLabelClassifier
from mlclf.bundle.card import escaped
from mlclf.exceptions import OptionsError

HOSTILE = "--- | a\nb <script>alert(1)</script> `x` **y** [z](http://q) {{ c }} \x1b[31m"


@pytest.fixture(scope="module")
def fitted(tiny_bert: Path) -> MultiLabelClassifier:
    texts, labels = toy_rows(64)
    return toy_classifier(tiny_bert, "lora", epochs=1, validation=0.2).fit(texts, [[*row, HOSTILE] for row in labels])


def test_hub_reads_the_card_of_every_saved_model(fitted: MultiLabelClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    data = ModelCard.load(tmp_path / "model" / "README.md").data.to_dict()
    assert (data["library_name"], data["pipeline_tag"]) == ("mlclf", "text-classification")
    assert data["tags"] == ["mlclf", "multi-label", "bert", "lora", "bce"]
    (result,) = data["model-index"][0]["results"]
    measured = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert result["dataset"]["name"] == "validation rows"
    assert measured["micro-F1"] == pytest.approx(fitted.validation_report_["micro_f1"], abs=1e-4)


def test_what_nobody_told_is_left_out(fitted: MultiLabelClassifier, tmp_path: Path, tiny_bert: Path) -> None:
    fitted.save(tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert not {"language", "license", "base_model"} & set(ModelCard(text).data.to_dict())
    # A path tells of the machine.
    assert str(tiny_bert) not in text
    assert "from a local folder" in text


def test_given_facts_stand_in_the_card(fitted: MultiLabelClassifier, tmp_path: Path) -> None:
    report = fitted.evaluate(*toy_rows(40, seed=1))
    facts = CardFacts(language=("en", "de"), license="apache-2.0", evaluation=report, dataset="Toy: test")
    fitted.save(tmp_path / "model", card=facts)
    card = ModelCard.load(tmp_path / "model" / "README.md")
    data = card.data.to_dict()
    assert (data["language"], data["license"]) == (["en", "de"], "apache-2.0")
    (result,) = data["model-index"][0]["results"]
    assert result["dataset"]["name"] == "Toy: test"
    assert f"| micro-F1 | {report.micro_f1:.4f} |" in card.text


def test_facts_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(OptionsError, match="evaluation must be a Report, got dict"):
        CardFacts(evaluation={"micro_f1": 1.0})  # type: ignore[arg-type]
    with pytest.raises(OptionsError, match="dataset names the rows of an evaluation"):
        CardFacts(dataset="Reuters")


def test_hostile_label_names_are_text(fitted: MultiLabelClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if "alert" in line]
    assert row.startswith(f"| {escaped(HOSTILE)} |")
    assert "<script>" not in text
    assert "\x1b" not in text


def test_card_may_be_changed_or_removed(fitted: MultiLabelClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model", include_backbone=True)
    card = tmp_path / "model" / "README.md"
    expected = fitted.predict_proba(["a"]).tolist()
    card.write_text("# Mine", encoding="utf-8")
    assert MultiLabelClassifier.load(tmp_path / "model").predict_proba(["a"]).tolist() == expected
    card.unlink()
    assert MultiLabelClassifier.load(tmp_path / "model").predict_proba(["a"]).tolist() == expected


def test_model_without_validation_has_a_card_without_figures(tiny_bert: Path, tmp_path: Path) -> None:
    toy_classifier(tiny_bert, epochs=1).fit(*toy_rows(32)).save(tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "## Figures" not in text
    assert "model-index" not in ModelCard(text).data.to_dict()
