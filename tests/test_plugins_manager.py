"""Discovery, isolation and the environment: what happens with installed plugins, above all broken ones."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings

import pytest

from mlclf.exceptions import (
    MissingPluginError,
    PluginConflictError,
    PluginDisabledError,
    PluginError,
    PluginIncompatibleError,
    PluginLoadError,
)
from mlclf.plugins import ComponentSpec, PluginLoadWarning, PluginManager, find_component, use_manager
from mlclf.testing.plugin_env import plugin_env

HEADER = """
from mlclf.plugins import ComponentSpec, hookimpl
MLCLF_PLUGIN_API = (1, 0)
def spec(name):
    return ComponentSpec(name=name, target="acme_parts:Head", options="acme_parts:HeadOptions", summary="a head")
"""

GOOD = (
    HEADER
    + """
@hookimpl
def mlclf_heads():
    return [spec("{id}:attention")]
"""
)


def good(plugin_id: str) -> str:
    return GOOD.replace("{id}", plugin_id)


# Each kind of broken plugin: source, status after loading, part of the error.
BROKEN = {
    "import-error": ("import no_such_module_xyz", "failed", "No module named 'no_such_module_xyz'"),
    "syntax-error": ("def (:", "failed", "SyntaxError"),
    "system-exit": ("import sys; sys.exit(3)", "failed", "SystemExit: 3"),
    "misspelt-hook": (
        HEADER + "@hookimpl\ndef mlclf_head():\n    return []",
        "failed",
        "mlclf has no hook 'mlclf_head'. Did you mean 'mlclf_heads'?",
    ),
    "wrong-arguments": (HEADER + "@hookimpl\ndef mlclf_heads(config):\n    return []", "failed", "'config'"),
    "raising-hook": (
        HEADER + "@hookimpl\ndef mlclf_heads():\n    raise KeyError('boom')",
        "failed",
        "KeyError: 'boom'",
    ),
    "raising-generator": (
        HEADER + "@hookimpl\ndef mlclf_heads():\n    yield spec('acme:x')\n    raise OSError('late')",
        "failed",
        "OSError: late",
    ),
    "wrong-namespace": (
        HEADER + "@hookimpl\ndef mlclf_heads():\n    return [spec('other:x')]",
        "failed",
        "'other:x', which is outside the plugin's namespace. Name it 'acme:x'",
    ),
    "shadowed-builtin": (
        HEADER + "@hookimpl\ndef mlclf_heads():\n    return [spec('bce')]",
        "failed",
        "'bce', which is outside the plugin's namespace. Name it 'acme:bce'",
    ),
    "duplicate-component": (
        HEADER + "@hookimpl\ndef mlclf_heads():\n    return [spec('acme:x'), spec('acme:x')]",
        "failed",
        "'acme:x' twice",
    ),
    "single-spec": (
        HEADER + "@hookimpl\ndef mlclf_heads():\n    return spec('acme:x')",
        "failed",
        "must return a list of ComponentSpec, got ComponentSpec",
    ),
    "list-of-classes": (
        HEADER + "@hookimpl\ndef mlclf_heads():\n    return [dict]",
        "failed",
        "must return a list of ComponentSpec, got <class 'dict'> in it",
    ),
    "malformed-target": (
        HEADER
        + "@hookimpl\ndef mlclf_heads():\n"
        + "    return [ComponentSpec(name='acme:x', target='acme.X', options='a:B', summary='')]",
        "failed",
        "target must be 'module:Class', got 'acme.X'",
    ),
    "no-hooks": ("MLCLF_PLUGIN_API = (1, 0)", "failed", "No function is marked with @hookimpl"),
    "asks-for-itself": (
        "from mlclf.plugins import get_manager\nget_manager().load('acme')",
        "failed",
        "asks for its own components while it is being loaded",
    ),
    "no-api": (good("acme").replace("MLCLF_PLUGIN_API = (1, 0)", ""), "incompatible", "must declare the plugin API"),
    "api-string": (good("acme").replace("(1, 0)", "'1.0'"), "incompatible", "got '1.0'"),
    "api-major": (good("acme").replace("(1, 0)", "(2, 0)"), "incompatible", "plugin API 2.0, this mlclf offers 1.1"),
    "api-minor": (good("acme").replace("(1, 0)", "(1, 9)"), "incompatible", "plugin API 1.9, this mlclf offers 1.1"),
    "api-next": (good("acme").replace("(1, 0)", "(1, 2)"), "incompatible", "plugin API 1.2, this mlclf offers 1.1"),
    "hook-newer-than-api": (
        good("acme") + "\n@hookimpl\ndef mlclf_losses():\n    return []\n",
        "failed",
        "mlclf_losses() came with plugin API 1.1, and the plugin declares 1.0",
    ),
    "api-old": (good("acme").replace("(1, 0)", "(0, 3)"), "incompatible", "Upgrade the plugin"),
}
ERRORS = {"failed": PluginLoadError, "incompatible": PluginIncompatibleError}


@pytest.fixture
def env(tmp_path):
    with plugin_env(tmp_path) as made:
        yield made


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_raises_its_cause_at_every_use(env, case):
    source, status, text = BROKEN[case]
    env.install("acme", source)
    with use_manager(env.manager()) as plugins:
        for _ in range(2):
            with pytest.raises(ERRORS[status]) as caught:
                plugins.load("acme", purpose="head 'acme:x'")
            message = str(caught.value)
            assert message.startswith("head 'acme:x' cannot be used: plugin 'acme' (mlclf-acme 1.0) ")
            assert text in message
            assert ("mlclf plugins doctor acme" in message) == (status == "failed")
        assert plugins.record("acme").status == status
        assert plugins.record("acme").components == {}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_leaves_others_usable_and_warns_once(env, case):
    source, status, text = BROKEN[case]
    env.install("acme", source)
    env.install("zeta", good("zeta"))
    with use_manager(env.manager()) as plugins:
        with pytest.warns(PluginLoadWarning, match=r"plugin 'acme' \(mlclf-acme 1\.0\)") as caught:
            names = [spec.name for spec in plugins.components("head")]
        assert names == ["zeta:attention"]
        assert len(caught) == 1
        assert text in str(caught[0].message)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plugins.load_all()
        assert [(r.id, r.status) for r in plugins.errors()] == [("acme", status)]


def test_failed_plugin_keeps_traceback_and_cause(env):
    env.install("acme", "import no_such_module_xyz")
    manager = env.manager()
    with pytest.raises(PluginLoadError) as caught:
        manager.load("acme")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert "import no_such_module_xyz" in manager.record("acme").traceback


def test_keyboard_interrupt_passes_and_the_plugin_can_be_tried_again(env):
    env.install("acme", "raise KeyboardInterrupt")
    manager = env.manager()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            manager.load("acme")
    assert manager.record("acme").status == "unloaded"


def test_listing_imports_no_plugin(env):
    for plugin_id in ("acme", "beta"):
        env.install(plugin_id, good(plugin_id))
    manager = env.manager()
    assert [(r.id, r.package, r.version, r.status) for r in manager.records()] == [
        ("acme", "mlclf-acme", "1.0", "unloaded"),
        ("beta", "mlclf-beta", "1.0", "unloaded"),
    ]
    assert env.imported() == set()


def test_using_one_plugin_imports_no_other(env):
    for plugin_id in ("acme", "beta"):
        env.install(plugin_id, good(plugin_id))
    assert find_component("head", "acme:attention", manager=env.manager()).name == "acme:attention"
    assert env.imported() == {"mlclf_acme", "mlclf_acme.plugin"}


def test_builtins_are_found_without_looking_at_plugins():
    class Refuses(PluginManager):
        def _scan(self):
            raise AssertionError("plugins were looked at")

    assert find_component("strategy", "lora", manager=Refuses()).name == "lora"


def test_components_come_sorted_whatever_the_order_of_declaration(env):
    env.install("acme", HEADER + "@hookimpl\ndef mlclf_heads():\n    return [spec('acme:b'), spec('acme:a')]")
    assert [spec.name for spec in env.manager().components("head")] == ["acme:a", "acme:b"]


def test_one_name_may_serve_several_kinds(env):
    env.install("acme", good("acme") + "@hookimpl\ndef mlclf_strategies():\n    return [spec('acme:attention')]")
    manager = env.manager()
    assert {kind: len(specs) for kind, specs in manager.load("acme").components.items()} == {"strategy": 1, "head": 1}


def test_optional_hooks_of_later_versions_are_allowed(env):
    env.install("acme", good("acme") + "@hookimpl(optionalhook=True)\ndef mlclf_losses():\n    return []")
    assert env.manager().load("acme").status == "ok"


def test_missing_plugin_is_named_with_a_suggestion(env):
    env.install("acme", good("acme"))
    with pytest.raises(MissingPluginError) as caught:
        env.manager().load("acmee", purpose="head 'acmee:x'")
    assert str(caught.value) == (
        "head 'acmee:x' needs plugin 'acmee', which is not installed. Did you mean 'acme'? Installed plugins: acme. "
        "A plugin's package is usually named mlclf-acmee; see who publishes it before you install it."
    )


def test_missing_plugin_of_this_project_names_its_package():
    with pytest.raises(MissingPluginError, match=r"'minilm', which is not installed: pip install mlclf-minilm$"):
        PluginManager(entry_points=[]).load("minilm", purpose="backbone 'minilm:l6'")


def test_plugin_installed_while_the_process_runs_is_found(env):
    manager = PluginManager(environ={})
    manager.records()
    env.install("acme", good("acme"))
    assert manager.load("acme").status == "ok"


@pytest.mark.parametrize(
    ("environ", "status", "text"),
    [
        ({}, "unloaded", ""),
        ({"MLCLF_PLUGINS": ""}, "disabled", "MLCLF_PLUGINS is set and does not name it"),
        ({"MLCLF_PLUGINS": "other"}, "disabled", "MLCLF_PLUGINS is set and does not name it"),
        ({"MLCLF_PLUGINS": " acme , other"}, "unloaded", ""),
        ({"MLCLF_PLUGINS": "MLCLF_Acme"}, "unloaded", ""),
        ({"MLCLF_DISABLE_PLUGINS": "acme"}, "disabled", "switched off by MLCLF_DISABLE_PLUGINS"),
        ({"MLCLF_DISABLE_PLUGINS": "mlclf-acme"}, "disabled", "switched off by MLCLF_DISABLE_PLUGINS"),
        ({"MLCLF_PLUGINS": "acme", "MLCLF_DISABLE_PLUGINS": "acme"}, "disabled", "MLCLF_DISABLE_PLUGINS"),
    ],
)
def test_environment_switches_plugins_off(env, environ, status, text):
    env.install("acme", good("acme"))
    manager = env.manager(environ)
    assert manager.record("acme").status == status
    if status == "disabled":
        with pytest.raises(PluginDisabledError, match=text):
            manager.load("acme")
        assert manager.load_all() == manager.records()
        assert env.imported() == set()


def test_environment_of_the_process_is_read_when_plugins_are_first_needed(env, monkeypatch):
    env.install("acme", good("acme"))
    manager = PluginManager()
    monkeypatch.setenv("MLCLF_DISABLE_PLUGINS", "acme")
    assert manager.record("acme").status == "disabled"


def test_disabling_something_not_installed_is_logged(env, caplog):
    env.install("acme", good("acme"))
    env.manager({"MLCLF_DISABLE_PLUGINS": "acmee,mlclf-acme"}).records()
    assert [record.message for record in caplog.records] == [
        "MLCLF_DISABLE_PLUGINS names acmee, which is not installed."
    ]


def test_strict_raises_where_a_warning_would_be_given(env):
    env.install("acme", "import no_such_module_xyz")
    manager = env.manager({"MLCLF_PLUGINS_STRICT": "1"})
    with pytest.raises(PluginLoadError, match="no_such_module_xyz"):
        manager.load_all()
    assert [record.id for record in manager.errors()] == ["acme"]


def test_two_packages_with_one_id_are_both_refused(env):
    env.install("acme", good("acme"))
    env.install("acme", good("acme"), package="evil-acme")
    manager = env.manager()
    with pytest.raises(PluginConflictError) as caught:
        manager.load("acme")
    assert "plugin 'acme' (evil-acme, mlclf-acme) is claimed by 2 installed packages" in str(caught.value)
    assert "MLCLF_DISABLE_PLUGINS=" in str(caught.value)
    assert env.imported() == set()


def test_conflict_ends_when_one_package_is_switched_off(env):
    env.install("acme", good("acme"))
    env.install("acme", good("acme"), package="evil-acme")
    manager = env.manager({"MLCLF_DISABLE_PLUGINS": "evil_acme"})
    assert manager.load("acme").package == "mlclf-acme"


def test_metadata_of_one_distribution_in_two_places_is_no_conflict(env):
    env.install("acme", good("acme"), version="1.0")
    env.install("acme", good("acme"), version="1.1")
    assert env.manager().load("acme").status == "ok"


@pytest.mark.parametrize(
    ("requires", "status"),
    [
        (["mlclf>=3"], "incompatible"),
        (["mlclf>=1.2,<2"], "unloaded"),
        (["mlclf[train]>=1,<1.3"], "incompatible"),
        (["MLCLF>=3; python_version < '3'"], "unloaded"),
        (["mlclf>=3; extra == 'test'"], "unloaded"),
        (["numpy", "other>=9"], "unloaded"),
        (["mlclf >>> 3"], "incompatible"),
    ],
)
def test_requirement_on_mlclf_is_checked_before_import(env, requires, status):
    env.install("acme", good("acme"), requires=requires)
    manager = env.manager(host_version="1.3.0")
    assert manager.record("acme").status == status
    assert env.imported() == set()


def test_requirement_that_is_not_met_is_named(env):
    env.install("acme", good("acme"), requires=["mlclf>=3"])
    with pytest.raises(
        PluginIncompatibleError, match=r"plugin 'acme' \(mlclf-acme 1\.0\) requires mlclf>=3, this is mlclf 1\.3\.0"
    ):
        env.manager(host_version="1.3.0").load("acme")


def test_development_version_of_the_host_satisfies_requirements(env):
    env.install("acme", good("acme"), requires=["mlclf>=1.2"])
    assert env.manager(host_version="1.3.0.dev4").record("acme").status == "unloaded"


@pytest.mark.parametrize("plugin_id", ["mlclf", "local", "builtin", "Acme", "1acme"])
def test_reserved_and_malformed_ids_are_refused(env, plugin_id):
    env.install(plugin_id, good("acme"), package="mlclf-odd")
    with pytest.raises(PluginLoadError, match="must rename its entry point"):
        env.manager().load(plugin_id)


def test_unreadable_entry_points_are_reported_and_skipped(env):
    env.install("acme", good("acme"))
    env.install("zeta", good("zeta"))
    next(env.folder.glob("mlclf_acme-*/entry_points.txt")).write_text("[mlclf]\nacme\n")
    with pytest.warns(PluginLoadWarning, match="package 'mlclf-acme' cannot be read"):
        manager = env.manager()
    assert [record.id for record in manager.records()] == ["zeta"]


def test_threads_load_a_plugin_once(env):
    env.install("acme", "import time\ntime.sleep(0.1)\n" + good("acme"))
    manager, found = env.manager(), []
    threads = [threading.Thread(target=lambda: found.append(manager.load("acme"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(record) for record in found}) == 1
    assert len(found) == 8


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("name", "Acme:x", "must be 'plugin:name'"),
        ("name", "a:b:c", "must be 'plugin:name'"),
        ("target", "os", "target must be 'module:Class'"),
        ("options", "os:path.join", "options must be 'module:Class'"),
        ("version", 0, "version must be an int from 1 on"),
    ],
)
def test_component_spec_refuses_malformed_values(field, value, text):
    values = {"name": "acme:x", "target": "a.b:C", "options": "a.b:D", "summary": "x"} | {field: value}
    with pytest.raises(PluginError, match=text):
        ComponentSpec(**values)


def test_plugins_import_neither_torch_nor_other_heavy_packages():
    heavy = "{'torch', 'transformers', 'peft', 'sklearn', 'scipy', 'pandas', 'accelerate'}"
    code = (
        f"import sys, mlclf.plugins, mlclf.plugins.doctor, mlclf.cli.plugins; sys.exit(str({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"
