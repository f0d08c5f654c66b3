"""Losses, calibrators and augmentations of plugins: chosen by name, saved by name, loaded only through their plugin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import toy_classifier, toy_rows
from typer.testing import CliRunner

from mlclf import AugmentationOptions, BceOptions, MultiLabelClassifier, TrainingOptions
from mlclf.calibrators import PlattCalibrator, PlattOptions
from mlclf.cli.plugins import plugins_app
from mlclf.exceptions import (
    BundleDamagedError,
    IncompatibleComponentsError,
    InvalidInputError,
    MissingPluginError,
    OptionsError,
    PluginDisabledError,
    PluginIncompatibleError,
    PluginLoadError,
    UnknownComponentError,
)
from mlclf.interfaces import Augmentation, Calibrator
from mlclf.labels import LabelSpace
from mlclf.losses import FocalOptions, make_loss
from mlclf.onnx import OnnxClassifier
from mlclf.options import NamedOptions
from mlclf.plugins import (
    PluginLoadWarning,
    PluginManager,
    register_augmentation,
    register_calibrator,
    register_loss,
    resolve,
    use_manager,
)
from mlclf.testing.plugin_env import PluginEnv, plugin_env

PLUGIN = """
from mlclf.plugins import ComponentSpec, hookimpl

MLCLF_PLUGIN_API = (1, 1)

def spec(name, title):
    module = "mlclf_acme.parts:"
    return ComponentSpec(name=name, target=module + title, options=module + title + "Options", summary=title)

@hookimpl
def mlclf_losses():
    return [spec("acme:soft-f1", "SoftF1")]

@hookimpl
def mlclf_calibrators():
    return [spec("acme:beta", "Beta"), spec("acme:wild", "Wild")]

@hookimpl
def mlclf_augmentations():
    return [spec("acme:typos", "Typos"), spec("acme:loses", "Loses")]
"""

PARTS = """
import numpy as np
from pydantic import Field

from mlclf.interfaces import Augmentation, Calibrator, label_cells
from mlclf.losses import LossOptions, MultiLabelLoss
from mlclf.options import NamedOptions


class SoftF1Options(LossOptions):
    component = "acme:soft-f1"
    beta: float = Field(default=1.0, gt=0)


class SoftF1(MultiLabelLoss):
    Options = SoftF1Options
    weighs_labels = False

    def rows(self, logits, targets, known):
        p = logits.sigmoid() if known is None else logits.sigmoid().masked_fill(~known, 0.0)
        weight = self.options.beta ** 2
        hits = (1 + weight) * (p * targets).sum(dim=1)
        return 1 - hits / (p.sum(dim=1) + weight * targets.sum(dim=1)).clamp(min=1e-6)


class BetaOptions(NamedOptions):
    component = "acme:beta"


class Beta(Calibrator):
    Options = BetaOptions

    def fit(self, probabilities, targets):
        self.powers = np.ones((targets.n_labels, 2), dtype=np.float32)
        for column, p, truth in label_cells(probabilities, targets):
            self.powers[column] = 1 + truth.mean(), 2

    def calibrate(self, probabilities, columns):
        a, b = self.powers[columns].T
        odds = probabilities ** a / np.maximum(1 - probabilities, 1e-6) ** b
        return odds / (1 + odds)

    def state(self):
        return {"powers": self.powers}

    def load_state(self, state):
        self.powers = state["powers"]


class WildOptions(BetaOptions):
    component = "acme:wild"


class Wild(Beta):
    Options = WildOptions

    def calibrate(self, probabilities, columns):
        return probabilities + 1


class TyposOptions(NamedOptions):
    component = "acme:typos"
    rate: float = Field(default=0.5, ge=0, le=1)


class Typos(Augmentation):
    Options = TyposOptions

    def change_texts(self, texts, targets, generator):
        return [t[1:] + t[:1] if generator.random() < self.options.rate else t for t in texts], targets


class LosesOptions(TyposOptions):
    component = "acme:loses"


class Loses(Augmentation):
    Options = LosesOptions

    def change_texts(self, texts, targets, generator):
        return texts[1:], targets
"""
TEST = toy_rows(20, seed=9)[0]


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PluginEnv]:
    with plugin_env(tmp_path_factory.mktemp("plugins")) as env:
        env.install("acme", PLUGIN, modules={"parts": PARTS}, version="1.4.2")
        yield env


@pytest.fixture
def acme(env: PluginEnv) -> Iterator[PluginManager]:
    with use_manager(env.manager()) as manager:
        yield manager


@pytest.fixture(scope="module")
def fitted(env: PluginEnv, tiny_bert: Path) -> MultiLabelClassifier:
    """A classifier with a loss, a calibrator and an augmentation of a plugin; never change it."""
    with use_manager(env.manager()):
        clf = toy_classifier(
            tiny_bert,
            "head-only",
            head=BceOptions(loss={"name": "acme:soft-f1", "beta": 2}),
            training={"augmentation": [AugmentationOptions(deletion=0.1), {"name": "acme:typos", "rate": 0.3}]},
            calibration="acme:beta",
            validation=0.3,
        )
        return clf.fit(*toy_rows(64))


@pytest.fixture(scope="module")
def saved(fitted: MultiLabelClassifier, env: PluginEnv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    with use_manager(env.manager()):
        fitted.save(folder)
    return folder


def altered(saved: Path, target: Path, **changes: Any) -> Path:
    """A copy of a saved model with another manifest."""
    shutil.copytree(saved, target)
    manifest = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps({**manifest, **changes}))
    return target


# --- Choosing ---


def test_loss_of_a_plugin_is_chosen_by_name_or_by_its_options(acme: PluginManager) -> None:
    assert BceOptions(loss="acme:soft-f1").loss == "acme:soft-f1"
    options = resolve("loss", "acme:soft-f1")[2].replace(beta=2.0)
    assert BceOptions(loss=options) == BceOptions(loss={"name": "acme:soft-f1", "beta": 2})
    assert BceOptions(**BceOptions(loss=options).model_dump(mode="json")) == BceOptions(loss=options)


def test_wrong_option_of_a_plugins_loss_is_refused_at_once(acme: PluginManager) -> None:
    with pytest.raises(OptionsError, match=r"has no option 'bata'. Did you mean 'beta'"):
        BceOptions(loss={"name": "acme:soft-f1", "bata": 2})
    with pytest.raises(OptionsError, match=r"has no loss 'acme:soft-f2'. Did you mean 'acme:soft-f1'"):
        BceOptions(loss="acme:soft-f2")


def test_component_of_another_kind_is_said_to_be_one(acme: PluginManager) -> None:
    with pytest.raises(UnknownComponentError, match="'focal' is a loss"):
        resolve("head", "focal")
    with pytest.raises(UnknownComponentError, match=r"plugin 'acme' .* has no head"):
        resolve("head", "acme:beta")


def test_plugin_that_is_not_installed_is_named_wherever_it_is_chosen(tiny_bert: Path) -> None:
    with use_manager(PluginManager(entry_points=[])):
        with pytest.raises(MissingPluginError, match="loss 'acme:soft-f1' needs plugin 'acme'"):
            BceOptions(loss="acme:soft-f1")
        for given, text in (
            ({"calibration": "acme:beta"}, "calibrator 'acme:beta' needs plugin 'acme'"),
            ({"training": {"augmentation": "acme:typos"}}, "augmentation 'acme:typos' needs plugin 'acme'"),
        ):
            with pytest.raises(MissingPluginError, match=text):
                toy_classifier(tiny_bert, "head-only", validation=0.3, **given).fit(*toy_rows(64))


@pytest.mark.parametrize("wrong", ["typos", 3, [], {"name": 3}, ["acme:typos", 1]])
def test_augmentation_that_cannot_be_one_is_refused_by_the_training_options(wrong: Any) -> None:
    with pytest.raises(OptionsError, match=r"TrainingOptions\(augmentation"):
        TrainingOptions(augmentation=wrong)


def test_one_augmentation_twice_is_refused(acme: PluginManager, tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, "head-only", training={"augmentation": ["acme:typos", {"name": "acme:typos"}]})
    with pytest.raises(OptionsError, match="has 'acme:typos' twice"):
        clf.fit(*toy_rows(32))


def test_parameters_of_a_calibrator_are_set_as_those_of_other_components(acme: PluginManager) -> None:
    clf = MultiLabelClassifier(calibration="acme:beta")
    with pytest.raises(OptionsError, match="BetaOptions has no option 'rate'"):
        clf.set_params(calibration__rate=1)
    with pytest.raises(OptionsError, match="calibration is None"):
        MultiLabelClassifier().set_params(calibration__rate=1)


# --- Fitting ---


def test_loss_and_calibrator_are_those_of_the_plugin(fitted: MultiLabelClassifier, acme: PluginManager) -> None:
    model = fitted.model_
    assert type(model.network.head.loss).__name__ == "SoftF1"
    assert model.network.head.loss.options.beta == 2  # type: ignore[union-attr]  # the plugin's class
    raw = model.bounded_probabilities(TEST, LabelSpace(model.labels.names).encode([[]] * len(TEST)))
    assert type(model.calibrator).__name__ == "Beta"
    np.testing.assert_array_equal(fitted.predict_proba(TEST), raw)


def test_augmentation_changes_what_is_learned(acme: PluginManager, tiny_bert: Path) -> None:
    def learned(**training: Any) -> Any:
        clf = toy_classifier(tiny_bert, "head-only", epochs=1, training=training).fit(*toy_rows(32))
        return clf.predict_proba(TEST)

    assert (learned() != learned(augmentation={"name": "acme:typos", "rate": 1})).any()
    np.testing.assert_array_equal(learned(), learned(augmentation={"name": "acme:typos", "rate": 0}))


def test_augmentation_draws_anew_in_every_epoch_and_again_the_same(acme: PluginManager) -> None:
    options = resolve("augmentation", "acme:typos")[2]
    made = resolve("augmentation", options)[1](options)
    targets = LabelSpace(("a",)).encode([[]] * len(TEST))
    first, second = (list(made.rows(TEST, targets, 0, epoch)[0]) for epoch in (0, 1))
    assert first != second
    assert first == list(made.rows(TEST, targets, 0, 0)[0])
    assert first != list(made.rows(TEST, targets, 1, 0)[0])


def test_augmentation_that_loses_texts_is_named(acme: PluginManager, tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, "head-only", training={"augmentation": "acme:loses"})
    with pytest.raises(InvalidInputError, match=r"'acme:loses' must return one text for each.* 32 and returned 31"):
        clf.fit(*toy_rows(32))


def test_calibrator_that_gives_no_probabilities_is_named(acme: PluginManager, tiny_bert: Path) -> None:
    clf = toy_classifier(tiny_bert, "head-only", validation=0.3, calibration="acme:wild")
    with pytest.raises(InvalidInputError, match="Calibrator 'acme:wild' returned values that are no probabilities"):
        clf.fit(*toy_rows(64))


def test_calibrator_gives_the_same_for_dense_and_sparse_and_leaves_new_labels_alone() -> None:
    from scipy.sparse import csr_array

    p = np.array([[0.2, 0.9, 0.0], [0.6, 0.0, 0.3]], dtype=np.float32)
    state = {"scale": np.array([2.0, 0.5]), "offset": np.array([0.1, -0.2])}
    calibrator = PlattCalibrator.restored(PlattOptions(), state, 2)
    dense, sparse = calibrator.apply(p), calibrator.apply(csr_array(p))
    np.testing.assert_array_equal(dense, sparse.toarray())
    np.testing.assert_array_equal(dense[:, 2], p[:, 2])
    assert dense[1, 1] == 0
    with pytest.raises(InvalidInputError, match=r"shape \(n_samples, 2\)"):
        calibrator.apply(p[:, :1])


# --- Saving and loading ---


def test_saved_model_names_what_it_uses_and_lists_the_plugin(saved: Path) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest["uses"] == {
        "loss": ["acme:soft-f1"],
        "augmentation": ["standard", "acme:typos"],
        "calibrator": ["acme:beta"],
    }
    (plugin,) = manifest["plugins"]
    assert (plugin["package"], plugin["api"]) == ("mlclf-acme", [1, 1])
    assert plugin["used_for"] == ["loss", "calibrator", "augmentation"]
    assert plugin["components"] == [
        {"kind": "loss", "name": "acme:soft-f1", "version": 1},
        {"kind": "calibrator", "name": "acme:beta", "version": 1},
        {"kind": "augmentation", "name": "acme:typos", "version": 1},
    ]
    assert manifest["components"]["head"]["options"]["loss"] == {"name": "acme:soft-f1", "beta": 2.0}
    assert (saved / "calibrator.safetensors").is_file()


def test_loaded_model_answers_the_same(fitted: MultiLabelClassifier, saved: Path, acme: PluginManager) -> None:
    loaded = MultiLabelClassifier.load(saved, device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(TEST), fitted.predict_proba(TEST))
    assert loaded.calibration == "acme:beta"
    assert loaded.training == fitted.training.replace(augmentation=loaded.training.augmentation)
    assert loaded.training.augmentation[1].rate == 0.3


def test_other_versions_than_the_saved_ones_are_refused_and_accepted_with_a_warning(
    fitted: MultiLabelClassifier, saved: Path, acme: PluginManager, tmp_path: Path
) -> None:
    (plugin,) = json.loads((saved / "manifest.json").read_text())["plugins"]
    another = [{**part, "version": part["version"] + 1} for part in plugin["components"]]
    for number, change in enumerate([{"version": "0.4"}, {"components": another}]):
        folder = altered(saved, tmp_path / str(number), plugins=[plugin | change])
        with pytest.raises(PluginIncompatibleError, match="load it with allow_plugin_version_mismatch=True"):
            MultiLabelClassifier.load(folder)
        with pytest.warns(PluginLoadWarning, match="Check the predictions"):
            loaded = MultiLabelClassifier.load(folder, device="cpu", allow_plugin_version_mismatch=True)
        np.testing.assert_array_equal(loaded.predict_proba(TEST), fitted.predict_proba(TEST))


def test_model_saved_before_components_had_versions_loads(
    fitted: MultiLabelClassifier, saved: Path, acme: PluginManager, tmp_path: Path
) -> None:
    (plugin,) = json.loads((saved / "manifest.json").read_text())["plugins"]
    del plugin["components"]
    loaded = MultiLabelClassifier.load(altered(saved, tmp_path / "old", plugins=[plugin]), device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(TEST), fitted.predict_proba(TEST))


def test_loading_without_the_plugin_names_its_package(saved: Path) -> None:
    with use_manager(PluginManager(entry_points=[])):  # noqa: SIM117  # one line would be too long
        with pytest.raises(MissingPluginError, match=r'loss \'acme:soft-f1\', .*pip install "mlclf-acme>=1.4.2,<2"'):
            MultiLabelClassifier.load(saved)


def test_plugins_of_options_are_refused_by_allow_plugins(saved: Path, env: PluginEnv) -> None:
    with use_manager(env.manager()) as manager:
        with pytest.raises(PluginDisabledError, match=r"'acme' .*which allow_plugins does not name"):
            MultiLabelClassifier.load(saved, allow_plugins="none")
        assert manager.record("acme").status == "unloaded"


@pytest.mark.parametrize("kind", ["loss", "calibrator", "augmentation"])
def test_component_that_the_manifest_does_not_list_is_not_looked_for(
    saved: Path, env: PluginEnv, tmp_path: Path, kind: str
) -> None:
    uses = json.loads((saved / "manifest.json").read_text())["uses"]
    folder = altered(saved, tmp_path / "altered", uses={k: v for k, v in uses.items() if k != kind})
    with use_manager(env.manager()), pytest.raises(BundleDamagedError, match=f"choose a {kind} that is not among"):
        MultiLabelClassifier.load(folder)


def test_file_cannot_hide_a_plugin_in_the_options(saved: Path, env: PluginEnv, tmp_path: Path) -> None:
    folder = altered(saved, tmp_path / "altered", uses={}, plugins=[])
    with use_manager(env.manager()) as manager:
        with pytest.raises(BundleDamagedError, match="not among the components that it lists"):
            MultiLabelClassifier.load(folder, allow_plugins="none")
        assert manager.record("acme").status == "unloaded"


def test_calibration_of_version_0_1_is_read(tiny_bert: Path, tmp_path: Path) -> None:
    clf = toy_classifier(tiny_bert, "head-only", validation=0.3, calibration="platt").fit(*toy_rows(64))
    clf.save(tmp_path / "new")
    scaling = clf.model_.calibrator.scaling  # type: ignore[union-attr]  # Platt's
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    del manifest["files"]["calibrator.safetensors"]
    folder = altered(tmp_path / "new", tmp_path / "old", files=manifest["files"], calibrator=scaling.to_json(), uses={})
    (folder / "calibrator.safetensors").unlink()
    loaded = MultiLabelClassifier.load(folder, device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(TEST), clf.predict_proba(TEST))


def test_labels_are_added_to_a_model_with_a_plugins_calibrator(
    saved: Path, fitted: MultiLabelClassifier, acme: PluginManager, tmp_path: Path
) -> None:
    loaded = MultiLabelClassifier.load(saved, device="cpu")
    grown = loaded.add_labels(["new"]).predict_proba(TEST)
    np.testing.assert_array_equal(grown[:, :-1], fitted.predict_proba(TEST))
    loaded.save(tmp_path / "grown")
    again = MultiLabelClassifier.load(tmp_path / "grown", device="cpu").predict_proba(TEST)
    np.testing.assert_array_equal(again, grown)


def test_export_refuses_a_calibrator_without_a_table_before_any_work(
    fitted: MultiLabelClassifier, acme: PluginManager, tmp_path: Path
) -> None:
    with pytest.raises(IncompatibleComponentsError, match="'acme:beta' has no table of a scale and an offset"):
        fitted.export_onnx(tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


# --- On the command line ---


def test_plugins_show_and_doctor_know_the_kinds(env: PluginEnv) -> None:
    with use_manager(env.manager()):
        shown = CliRunner().invoke(plugins_app, ["show", "acme"], catch_exceptions=False).stdout
        examined = CliRunner().invoke(plugins_app, ["doctor", "acme", "--timeout", "100"], catch_exceptions=False)
    assert "plugin API 1.1" in shown
    for line in ("loss acme:soft-f1: SoftF1", "calibrator acme:beta: Beta", "augmentation acme:typos: Typos"):
        assert line in shown
    assert examined.exit_code == 0, examined.stdout


# --- Registered in a program ---


class HalfOptions(NamedOptions):
    component = "local:half"


class Half(PlattCalibrator):
    Options = HalfOptions


class ReversedOptions(NamedOptions):
    component = "local:reversed"


class Reversed(Augmentation):
    Options = ReversedOptions

    def change_texts(self, texts: Any, targets: Any, generator: Any) -> Any:
        return [" ".join(reversed(text.split())) for text in texts], targets


class MildOptions(FocalOptions):
    component = "local:mild"


class Mild(resolve("loss", "focal")[1]):  # type: ignore[misc]  # a class found by name
    Options = MildOptions


def test_components_of_a_program_are_registered_by_kind_and_saved(tiny_bert: Path, tmp_path: Path) -> None:
    clf = toy_classifier(
        tiny_bert,
        "head-only",
        validation=0.3,
        calibration="local:half",
        training={"augmentation": "local:reversed"},
    )
    with use_manager(PluginManager(entry_points=[])):
        register_loss(Mild, "local:mild")
        register_calibrator(Half, "local:half")
        register_augmentation(Reversed, "local:reversed")
        clf.set_params(head=BceOptions(loss="local:mild")).fit(*toy_rows(64)).save(tmp_path / "model")
        loaded = MultiLabelClassifier.load(tmp_path / "model", allow_plugins="none")
        np.testing.assert_array_equal(loaded.predict_proba(TEST), clf.predict_proba(TEST))
    with use_manager(PluginManager(entry_points=[])), pytest.raises(UnknownComponentError, match="register_loss"):
        MultiLabelClassifier.load(tmp_path / "model")


@pytest.mark.slow
def test_calibrator_with_a_table_is_exported_and_needs_no_plugin_to_be_served(tiny_bert: Path, tmp_path: Path) -> None:
    with use_manager(PluginManager(entry_points=[])):
        register_calibrator(Half, "local:half")
        clf = toy_classifier(tiny_bert, "head-only", validation=0.3, calibration="local:half").fit(*toy_rows(64))
        clf.add_labels(["new"])
        clf.export_onnx(tmp_path / "exported")
        expected = clf.predict_proba(TEST)
    with use_manager(PluginManager(entry_points=[])):
        served = OnnxClassifier(tmp_path / "exported", "cpu").predict_proba(TEST)
    np.testing.assert_allclose(served, expected, atol=1e-5)


def test_class_of_another_kind_cannot_be_registered() -> None:
    with use_manager(PluginManager(entry_points=[])):
        with pytest.raises(PluginLoadError, match=r"must be a subclass of mlclf.interfaces.Calibrator"):
            register_calibrator(Reversed, "local:reversed")  # type: ignore[arg-type]
        with pytest.raises(PluginLoadError, match=r"must be a subclass of mlclf.losses.MultiLabelLoss"):
            register_loss(Half, "local:half")  # type: ignore[arg-type]


def test_every_loss_can_be_made_by_its_record() -> None:
    from mlclf.interfaces import LabelStatistics

    counts = LabelStatistics(("a", "b"), positives=np.array([3, 4]), known=np.array([9, 9]))
    assert type(make_loss("zlpr", counts)).__name__ == "ZlprLoss"
    assert issubclass(PlattCalibrator, Calibrator)
