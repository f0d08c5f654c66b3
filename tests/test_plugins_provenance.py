"""What a saved model says about its plugins, and the checks before it is loaded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlclf.exceptions import (
    BundleDamagedError,
    MissingPluginError,
    MlclfError,
    OptionsError,
    PluginConflictError,
    PluginDisabledError,
    PluginIncompatibleError,
    PluginLoadError,
    UnknownComponentError,
)
from mlclf.plugins import PluginLoadWarning, PluginManager, check_component_versions, provenance, require
from mlclf.testing.plugin_env import plugin_env

SOURCE = """
from mlclf.plugins import ComponentSpec, hookimpl
MLCLF_PLUGIN_API = (1, 0)
def specs():
    return [ComponentSpec(name="acme:attn", target="a.b:C", options="a.b:D", summary="")]
@hookimpl
def mlclf_backbones():
    return specs()
@hookimpl
def mlclf_heads():
    return specs()
"""
COMPONENTS = {"backbone": "bert", "strategy": "lora", "head": "acme:attn"}
# As earlier versions of mlclf wrote it, and with the versions of the components.
ENTRY = {"id": "acme", "package": "mlclf-acme", "version": "1.4.2", "api": [1, 0], "used_for": ["head"]}
FULL_ENTRY = ENTRY | {"components": [{"kind": "head", "name": "acme:attn", "version": 1}]}


@pytest.fixture
def env(tmp_path):
    with plugin_env(tmp_path) as made:
        yield made


def test_built_in_components_need_no_plugin():
    components = {"backbone": "bert", "strategy": "lora", "head": "bce"}
    assert provenance(components) == []
    require([], components, allow_plugins="none")


def test_provenance_names_package_version_and_use(env):
    env.install("acme", SOURCE, version="1.4.2")
    assert provenance(COMPONENTS, manager=env.manager()) == [FULL_ENTRY]
    both = COMPONENTS | {"backbone": "acme:attn"}
    assert provenance(both, manager=env.manager())[0]["used_for"] == ["backbone", "head"]


def test_plugin_without_a_proper_version_cannot_be_saved_with_a_model(env):
    env.install("acme", SOURCE, version="nightly")
    with pytest.raises(PluginLoadError, match="has no valid name and version in its package metadata"):
        provenance(COMPONENTS, manager=env.manager())


def test_local_components_have_no_entry_and_must_be_registered_again():
    components = COMPONENTS | {"head": "local:mine"}
    manager = PluginManager(entry_points=[])
    assert provenance(components, manager=manager) == []
    with pytest.raises(UnknownComponentError, match=r"register_head\(YourClass, name='local:mine'\) first"):
        require([], components, manager=manager)


def test_what_was_saved_can_be_loaded(env):
    env.install("acme", SOURCE, version="1.4.2")
    manager = env.manager()
    require(provenance(COMPONENTS, manager=manager), COMPONENTS, manager=manager)


def test_nothing_is_imported_by_the_checks(env):
    env.install("acme", SOURCE, version="1.4.2")
    require([ENTRY], COMPONENTS, manager=env.manager())
    assert env.imported() == set()


def test_missing_plugin_says_what_to_install():
    with pytest.raises(MissingPluginError) as caught:
        require([ENTRY], COMPONENTS, manager=PluginManager(entry_points=[]))
    assert str(caught.value) == (
        "this model needs plugin 'acme' (head 'acme:attn'), saved with mlclf-acme 1.4.2. If you trust this package: "
        'pip install "mlclf-acme>=1.4.2,<2". (The package name comes from the model file.)'
    )


@pytest.mark.parametrize(
    ("version", "requirement"),
    [
        ("0.3", "mlclf-acme>=0.3,<1"),
        ("2.0.0rc1", "mlclf-acme>=2.0.0rc1,<3"),
        ("1.2+cu128", "mlclf-acme>=1.2,<2"),
        ("1!4.0", "mlclf-acme>=1!4.0,<1!5"),
    ],
)
def test_requirement_stays_within_the_major_version(version, requirement):
    with pytest.raises(MissingPluginError) as caught:
        require([ENTRY | {"version": version}], COMPONENTS, manager=PluginManager(entry_points=[]))
    assert f'pip install "{requirement}"' in str(caught.value)


def test_plugin_used_twice_is_named_with_both_components():
    both = COMPONENTS | {"backbone": "acme:attn"}
    with pytest.raises(MissingPluginError, match=r"\(backbone 'acme:attn', head 'acme:attn'\)"):
        require([ENTRY], both, manager=PluginManager(entry_points=[]))


def test_all_plugins_are_checked_before_any_is_imported(env):
    env.install("acme", SOURCE, version="1.4.2")
    components = COMPONENTS | {"strategy": "zeta:x"}
    entries = [ENTRY, ENTRY | {"id": "zeta", "package": "mlclf-zeta", "used_for": ["strategy"]}]
    with pytest.raises(MissingPluginError, match="plugin 'zeta'"):
        require(entries, components, manager=env.manager())
    assert env.imported() == set()


def test_id_provided_by_another_package_is_refused(env):
    env.install("acme", SOURCE, package="evil-acme", version="1.4.2")
    with pytest.raises(MissingPluginError, match=r"but here 'acme' is provided by evil-acme 1\.4\.2"):
        require([ENTRY], COMPONENTS, manager=env.manager())


def test_spelling_of_the_package_name_does_not_matter(env):
    env.install("acme", SOURCE, version="1.4.2")
    require([ENTRY | {"package": "Mlclf_Acme"}], COMPONENTS, manager=env.manager())


@pytest.mark.parametrize("installed", ["0.9", "2.0", "1!1.4.2"])
def test_another_major_version_is_refused_unless_accepted(env, installed):
    env.install("acme", SOURCE, version=installed)
    with pytest.raises(
        PluginIncompatibleError, match=r"another major version\. Install .mlclf-acme>=1\.4\.2,<2."
    ) as caught:
        require([ENTRY], COMPONENTS, manager=env.manager())
    assert f"saved with mlclf-acme 1.4.2; installed is {installed}" in str(caught.value)
    with pytest.warns(PluginLoadWarning, match="another major version. Check the predictions") as warned:
        require([ENTRY], COMPONENTS, manager=env.manager(), allow_version_mismatch=True)
    assert f"saved with mlclf-acme 1.4.2; installed is {installed}" in str(warned[0].message)


def test_installed_plugin_without_a_proper_version_is_refused(env):
    env.install("acme", SOURCE, version="nightly")
    with pytest.raises(PluginIncompatibleError, match="installed is nightly, which is no version number"):
        require([ENTRY], COMPONENTS, manager=env.manager())


def test_older_minor_version_warns(env):
    env.install("acme", SOURCE, version="1.3.9")
    with pytest.warns(PluginLoadWarning, match=r"installed is 1\.3\.9, which is older") as caught:
        require([ENTRY], COMPONENTS, manager=env.manager())
    assert caught[0].filename == __file__


@pytest.mark.parametrize("installed", ["1.4", "1.4.2", "1.5", "1.10"])
def test_same_or_newer_minor_version_is_silent(env, installed):
    env.install("acme", SOURCE, version=installed)
    require([ENTRY], COMPONENTS, manager=env.manager())


def test_component_of_the_same_version_is_silent(env):
    env.install("acme", SOURCE, version="1.5")
    check_component_versions([FULL_ENTRY], COMPONENTS, manager=env.manager())


def test_component_of_another_version_is_refused_unless_accepted(env):
    env.install("acme", SOURCE.replace('summary=""', 'summary="", version=3'), version="1.5")
    with pytest.raises(PluginIncompatibleError, match=r'Install "mlclf-acme==1\.4\.2"') as caught:
        check_component_versions([FULL_ENTRY], COMPONENTS, manager=env.manager())
    both = (
        "saved with version 1 of head 'acme:attn' (mlclf-acme 1.4.2); installed is version 3 (mlclf-acme 1.5), which "
        "may read its options otherwise."
    )
    assert both in str(caught.value)
    with pytest.warns(PluginLoadWarning) as warned:
        check_component_versions([FULL_ENTRY], COMPONENTS, manager=env.manager(), allow_version_mismatch=True)
    assert both in str(warned[0].message)
    assert warned[0].filename == __file__


def test_model_that_lists_no_versions_of_components_is_not_compared(env):
    env.install("acme", SOURCE.replace('summary=""', 'summary="", version=3'), version="1.5")
    check_component_versions([ENTRY], COMPONENTS, manager=env.manager())


def test_component_that_only_an_entry_names_is_never_looked_up(env):
    env.install("acme", SOURCE, version="1.4.2")
    listed = [{"kind": "loss", "name": "evil:x", "version": 9}, *FULL_ENTRY["components"]]
    check_component_versions([FULL_ENTRY | {"components": listed}], COMPONENTS, manager=env.manager())


def test_allowed_plugins_can_be_limited(env):
    env.install("acme", SOURCE, version="1.4.2")
    require([ENTRY], COMPONENTS, manager=env.manager(), allow_plugins={"acme"})
    for allowed in ("none", set(), {"other"}):
        with pytest.raises(PluginDisabledError, match=r"allow_plugins does not name. Add 'acme' if you trust it"):
            require([ENTRY], COMPONENTS, manager=env.manager(), allow_plugins=allowed)
    with pytest.raises(OptionsError, match=r"got 'acme'. Wrap it: \{'acme'\}"):
        require([ENTRY], COMPONENTS, manager=env.manager(), allow_plugins="acme")


def test_unusable_plugins_have_errors_of_their_own(env):
    env.install("acme", SOURCE.replace("(1, 0)", "(2, 0)"), version="1.4.2")
    with pytest.raises(PluginDisabledError, match=r"this model needs plugin 'acme' .* switched off by MLCLF_DISABLE"):
        require([ENTRY], COMPONENTS, manager=env.manager({"MLCLF_DISABLE_PLUGINS": "acme"}))
    manager = env.manager()
    manager.errors()
    with pytest.raises(PluginIncompatibleError, match=r"this model needs .* plugin API"):
        require([ENTRY], COMPONENTS, manager=manager)
    env.install("acme", SOURCE, package="evil-acme")
    with pytest.raises(PluginConflictError, match=r"this model needs .* claimed by 2 installed packages"):
        require([ENTRY], COMPONENTS, manager=env.manager())


def test_plugin_known_to_fail_is_refused_with_its_cause(env):
    env.install("acme", "import no_such_module_xyz", version="1.4.2")
    manager = env.manager()
    manager.errors()
    with pytest.raises(PluginLoadError, match=r"this model needs .* failed to load: ModuleNotFoundError"):
        require([ENTRY], COMPONENTS, manager=manager)


def test_component_whose_plugin_is_not_listed_is_refused(env):
    env.install("acme", SOURCE)
    with pytest.raises(BundleDamagedError, match="uses 'acme:attn' but lists no plugin 'acme'"):
        require([], COMPONENTS, manager=env.manager())


def test_unknown_built_in_component_is_refused_by_name():
    with pytest.raises(UnknownComponentError, match="no strategy is named 'lora2'"):
        require([], COMPONENTS | {"strategy": "lora2", "head": "bce"}, manager=PluginManager(entry_points=[]))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": "Acme"}, "id"),
        ({"id": "acme\n"}, "id"),
        ({"package": "mlclf-acme; rm -rf ~"}, "package"),
        ({"package": "https://evil.example/x.whl"}, "package"),
        ({"package": "--index-url=x"}, "package"),
        ({"package": "mlclf-acme\n"}, "package"),
        ({"package": "a" * 500}, "package"),
        ({"version": "1.0; os_name"}, "version"),
        ({"version": '1.0" && curl x'}, "version"),
        ({"version": " 1.0"}, "version"),
        ({"version": "1" * 100}, "version"),
        ({"version": 1.0}, "version"),
        ({"api": [1]}, "api"),
        ({"api": "1.0"}, "api"),
        ({"used_for": ["metric"]}, "used_for"),
        ({"module": "os:system"}, "form"),
        ({"components": [{"kind": "head", "name": "acme:attn", "version": "1"}]}, "components"),
        ({"components": [{"kind": "head", "name": "acme:attn; ls", "version": 1}]}, "components"),
        ({"components": [{"kind": "head", "name": "acme:attn", "version": 1, "target": "os:system"}]}, "components"),
    ],
)
def test_malformed_entry_is_refused_without_showing_it(change, field):
    with pytest.raises(BundleDamagedError) as caught:
        require([ENTRY | change], COMPONENTS, manager=PluginManager(entry_points=[]))
    assert str(caught.value) == f"The model's list of plugins has an entry with a malformed {field!r}."


@pytest.mark.parametrize("name", ["acme:attn; ls", "os.system", "../x", "acme:a:b", 3, None])
def test_malformed_component_name_is_refused(name):
    if name == "os.system":  # well formed, so it is looked up among the built-ins, and never imported
        with pytest.raises(UnknownComponentError, match=r"no head is named 'os\.system'"):
            require([], {"head": name}, manager=PluginManager(entry_points=[]))
        return
    with pytest.raises(BundleDamagedError, match="must be named 'name' or 'plugin:name'"):
        require([ENTRY], {"head": name}, manager=PluginManager(entry_points=[]))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50)
@given(st.lists(st.one_of(_JSON, st.fixed_dictionaries({key: _JSON for key in ENTRY})), max_size=3))
def test_any_json_in_place_of_the_entries_gives_an_error_of_mlclf(entries):
    with pytest.raises(MlclfError):
        require(entries, COMPONENTS, manager=PluginManager(entry_points=[]))


@given(st.text(max_size=60), st.text(max_size=30))
def test_whatever_is_shown_as_a_command_is_a_plain_requirement(package, version):
    with pytest.raises(MlclfError) as caught:
        require([ENTRY | {"package": package, "version": version}], COMPONENTS, manager=PluginManager(entry_points=[]))
    _, marker, rest = str(caught.value).partition("pip install ")
    if marker:
        command = rest.partition('"')[2].partition('"')[0]
        assert set(command) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-<>=!,")
