"""From a user's choice to component classes: names, options, local registrations, targets and their errors."""

from __future__ import annotations

import pytest

from mlclf.exceptions import MissingExtraError, OptionsError, PluginError, PluginLoadError, UnknownComponentError
from mlclf.interfaces import Augmentation, Backbone, Calibrator, Head, Strategy
from mlclf.losses import MultiLabelLoss
from mlclf.options import Options, TrainingOptions
from mlclf.plugins import (
    KINDS,
    PluginManager,
    component_names,
    component_specs,
    find_component,
    register_head,
    register_strategy,
    resolve,
    use_manager,
)
from mlclf.plugins.builtins import BUILTINS
from mlclf.testing.plugin_env import plugin_env

PLUGIN = """
from mlclf.plugins import ComponentSpec, hookimpl
MLCLF_PLUGIN_API = (1, 0)
def spec(name, target, options):
    modules = "mlclf_acme."
    return ComponentSpec(name="acme:" + name, target=modules + target, options=modules + options, summary="")
@hookimpl
def mlclf_heads():
    return [
        spec(name, "parts:" + target, "parts:" + options)
        for name, target, options in [
            ("ok", "Ok", "OkOptions"),
            ("gone", "Gone", "OkOptions"),
            ("gone-options", "Ok", "GoneOptions"),
            ("plain", "Plain", "OkOptions"),
            ("function", "function", "OkOptions"),
            ("plain-options", "Ok", "Plain"),
            ("abstract", "Abstract", "AbstractOptions"),
            ("other-name", "Ok", "OkOptions"),
            ("other-options", "Ok", "OtherOptions"),
        ]
    ] + [
        spec("exits", "exits:X", "parts:OkOptions"),
        spec("no-module", "no:X", "parts:OkOptions"),
        spec("no-peft", "extra:X", "parts:OkOptions"),
    ]
"""

PARTS = """
from mlclf.interfaces import Head
from mlclf.options import Options

class OkOptions(Options):
    component = "acme:ok"
    size: int = 3

class OtherOptions(Options):
    component = "acme:other-options"

class AbstractOptions(Options):
    component = "acme:abstract"

class Ok(Head):
    Options = OkOptions
    def bind(self, backbone, labels): ...
    def losses(self, backbone, batch): ...
    def probabilities(self, backbone, batch): ...

class Abstract(Head):
    Options = AbstractOptions
    def bind(self, backbone, labels): ...

class Plain: ...

def function(): ...
"""

INTERFACES = {
    "backbone": Backbone,
    "strategy": Strategy,
    "head": Head,
    "loss": MultiLabelLoss,
    "calibrator": Calibrator,
    "augmentation": Augmentation,
}
EXPORTABLE = {
    "backbone": lambda component: component.exportable,
    "strategy": lambda component: component.capabilities.export,
    "head": lambda component: component.capabilities.export,
    "calibrator": lambda component: component.table is not Calibrator.table,
}


@pytest.fixture
def manager(tmp_path):
    with plugin_env(tmp_path) as env:
        extra = "raise ModuleNotFoundError('No module named peft', name='peft.tuners')"
        env.install("acme", PLUGIN, modules={"parts": PARTS, "exits": "import sys; sys.exit(4)", "extra": extra})
        yield env.manager()


@pytest.fixture
def empty():
    with use_manager(PluginManager(entry_points=[])) as manager:
        yield manager


class TwiceOptions(Options):
    component = "local:twice"
    factor: float = 2.0


class Twice(Head):
    Options = TwiceOptions

    def bind(self, backbone, labels): ...
    def losses(self, backbone, batch): ...
    def probabilities(self, backbone, batch): ...


@pytest.mark.parametrize(("kind", "name"), [(kind, spec.name) for kind in KINDS for spec in BUILTINS[kind]])
def test_built_in_components_resolve_by_name_and_by_options(kind, name, empty):
    spec, component, options = resolve(kind, name)
    assert spec.name == type(options).component == name
    assert issubclass(component, INTERFACES[kind])
    assert component.Options is type(options)
    assert resolve(kind, options) == (spec, component, options)


@pytest.mark.parametrize(("kind", "name"), [(kind, spec.name) for kind in KINDS for spec in BUILTINS[kind]])
def test_facts_declared_for_built_ins_are_true(kind, name, empty):
    spec, component, _ = resolve(kind, name)
    if spec.families:
        assert set(spec.families) == ({component.family} if kind == "backbone" else component.capabilities.families)
    if spec.exportable is not None:
        assert spec.exportable == EXPORTABLE[kind](component)


def test_plugin_component_resolves_by_name_and_by_options(manager):
    spec, component, options = resolve("head", "acme:ok", manager=manager)
    assert (spec.name, component.__name__, options.size) == ("acme:ok", "Ok", 3)
    assert resolve("head", type(options)(size=5), manager=manager)[2].size == 5


def test_options_changed_by_replace_are_checked(manager):
    options = resolve("head", "acme:ok", manager=manager)[2]
    with pytest.raises(OptionsError, match=r"OkOptions\(size='many'\)"):
        resolve("head", options.replace(size="many"), manager=manager)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gone", r"'mlclf_acme.parts:Gone' cannot be imported \(AttributeError"),
        ("gone-options", r"'mlclf_acme.parts:GoneOptions' cannot be imported"),
        ("plain", "Plain'> must be a subclass of mlclf.interfaces.Head"),
        ("function", "must be a subclass of mlclf.interfaces.Head"),
        ("plain-options", "its options <class .*Plain'> must be a subclass of mlclf.options.Options"),
        ("abstract", "class Abstract does not define losses, probabilities"),
        ("other-name", "set component = 'acme:other-name' in class OkOptions, it is 'acme:ok'"),
        ("other-options", "set Options = OtherOptions in class Ok"),
        ("exits", r"cannot be imported \(SystemExit: 4\)"),
        ("no-module", "No module named 'mlclf_acme.no'"),
    ],
)
def test_target_that_is_no_component_is_refused(manager, name, text):
    with pytest.raises(PluginLoadError, match=text) as caught:
        resolve("head", f"acme:{name}", manager=manager)
    assert str(caught.value).startswith(f"head 'acme:{name}' of plugin 'acme' (mlclf-acme 1.0)")


def test_missing_extra_is_named(manager):
    with pytest.raises(MissingExtraError, match=r'needs peft, which is not installed: pip install "mlclf\[train\]"'):
        resolve("head", "acme:no-peft", manager=manager)


def test_component_that_the_installed_version_lacks(manager):
    with pytest.raises(UnknownComponentError) as caught:
        resolve("head", "acme:okk", manager=manager)
    assert str(caught.value).startswith(
        "plugin 'acme' (mlclf-acme 1.0) has no head 'acme:okk'. Did you mean 'acme:ok'?"
    )
    with pytest.raises(UnknownComponentError, match=r"has no backbone 'acme:ok'. It offers: no backbone\."):
        resolve("backbone", "acme:ok", manager=manager)


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("strategy", "lorra", "no strategy is named 'lorra'. Did you mean 'lora'?"),
        ("strategy", "LoRA", "Did you mean 'lora'?"),
        ("head", "mlclf:bce", "Did you mean 'bce'?"),
        ("head", "lora", "'lora' is a strategy. Built in: bce, "),
        ("backbone", "FacebookAI/roberta-base", "BertOptions(model='FacebookAI/roberta-base')"),
        ("backbone", "C:/models/mine", "BertOptions(model='C:/models/mine')"),
        ("backbone", "", "no backbone is named ''"),
        ("head", "acme", "'acme' is a plugin; name one of its components (mlclf plugins show acme)"),
    ],
)
def test_unknown_name_gets_the_likeliest_way_out(manager, kind, name, text):
    with pytest.raises(UnknownComponentError) as caught:
        resolve(kind, name, manager=manager)
    assert text in str(caught.value)


def test_unknown_kind_is_refused(empty):
    with pytest.raises(
        UnknownComponentError, match=r"one of backbone, strategy, head, loss, calibrator, augmentation, got 'metric'"
    ):
        find_component("metric", "bce")


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (None, r"head must be a name or options, got NoneType. Give 'bce' or BceOptions\(...\)"),
        (3, "got int"),
        (Twice, "got "),
        (TwiceOptions, r"got the class TwiceOptions. Call it: TwiceOptions\(\)"),
        (TrainingOptions(), "TrainingOptions names no component. Set component"),
    ],
)
def test_choice_that_is_neither_name_nor_options_is_refused(empty, choice, text):
    with pytest.raises(OptionsError, match=text):
        resolve("head", choice)


def test_options_of_another_class_under_the_same_name_are_refused(manager):
    class Fake(Options):
        component = "acme:ok"

    with pytest.raises(OptionsError, match="'acme:ok' takes options of class OkOptions, got Fake"):
        resolve("head", Fake(), manager=manager)


def test_local_component_is_registered_listed_and_resolved(empty):
    register_head(Twice, name="local:twice")
    spec, component, options = resolve("head", TwiceOptions(factor=3.0))
    assert (spec.name, component, options.factor) == ("local:twice", Twice, 3.0)
    assert resolve("head", "local:twice")[2] == TwiceOptions()
    assert component_names("head") == (*(spec.name for spec in BUILTINS["head"]), "local:twice")


def test_local_registration_can_be_repeated(empty):
    register_head(Twice, name="local:twice")
    register_head(Twice, name="local:twice")
    assert component_names("head").count("local:twice") == 1


def test_local_component_not_registered_says_how(empty):
    with pytest.raises(UnknownComponentError, match=r"register_head\(YourClass, name='local:twice'\) first"):
        resolve("head", "local:twice")


@pytest.mark.parametrize("name", ["twice", "acme:twice", "local:", "local:Twice", "local:a:b"])
def test_local_registration_refuses_other_namespaces(empty, name):
    with pytest.raises(PluginError, match="is named 'local:name'"):
        register_head(Twice, name=name)


def test_local_registration_checks_the_class(empty):
    with pytest.raises(PluginLoadError, match=r"must be a subclass of mlclf\.interfaces\.Strategy"):
        register_strategy(Twice, name="local:twice")
    with pytest.raises(PluginLoadError, match="set component = 'local:thrice' in class TwiceOptions"):
        register_head(Twice, name="local:thrice")


def test_managers_do_not_share_local_components(empty):
    register_head(Twice, name="local:twice")
    with use_manager(PluginManager(entry_points=[])):
        assert component_names("head") == tuple(spec.name for spec in BUILTINS["head"])
    assert "local:twice" in component_names("head")


def test_all_components_of_a_kind_are_listed(manager):
    names = component_names("head", manager=manager)
    assert names[0] == "bce"
    assert "acme:ok" in names
    assert [spec.name for spec in component_specs("backbone", manager=manager)] == ["bert", "llm"]
