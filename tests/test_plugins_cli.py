"""``mlclf plugins``: every command works, and ends, with every plugin broken."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from mlclf.cli.plugins import plugins_app
from mlclf.exceptions import OptionsError
from mlclf.plugins import PluginManager, use_manager
from mlclf.plugins.builtins import BUILTINS
from mlclf.testing.plugin_env import plugin_env

HEADER = """
from mlclf.plugins import ComponentSpec, hookimpl
MLCLF_PLUGIN_API = (1, 0)
PART, OPTIONS = "mlclf_good.parts:Part", "mlclf_good.parts:PartOptions"
@hookimpl
def mlclf_heads():
    return [ComponentSpec(name="{id}:part", target=PART, options=OPTIONS, summary="a part")]
"""
PARTS = """
from mlclf.interfaces import Head
from mlclf.options import Options
class PartOptions(Options):
    component = "good:part"
    needed: int
class Part(Head):
    Options = PartOptions
    def bind(self, backbone, labels): ...
    def losses(self, backbone, batch): ...
    def probabilities(self, backbone, batch): ...
"""
# Source of each broken plugin, the doctor's finding, and parts of its message and details.
BROKEN = {
    "imports": ("import no_such_module_xyz", "failed", "No module named 'no_such_module_xyz'", "plugin.py"),
    "crashes": ("import os; print('last words', flush=True); os.abort()", "crashed", "exit code -6", "last words"),
    "leaves": ("import os; os._exit(0)", "crashed", "exit code 0", ""),
    "hangs": (
        "def wait_forever():\n    while True: pass\nwait_forever()",
        "timeout",
        "did not finish loading within",
        "wait_forever",
    ),
    "target": (
        HEADER.replace("{id}", "target"),
        "failed",
        "head 'target:part' of plugin 'target'",
        "ModuleNotFoundError",
    ),
}


@pytest.fixture
def env(tmp_path):
    with plugin_env(tmp_path) as made:
        yield made


@pytest.fixture
def all_broken(env):
    for plugin_id, (source, *_) in BROKEN.items():
        env.install(plugin_id, source)
    env.install("old", "", requires=["mlclf>=99"])
    env.install("twice", "")
    env.install("twice", "", package="other-twice")
    return env


def run(manager, *arguments):
    with use_manager(manager):
        return CliRunner().invoke(plugins_app, arguments, catch_exceptions=False)


def test_list_works_with_every_plugin_broken(all_broken):
    done = run(all_broken.manager(), "list")
    assert done.exit_code == 0
    for plugin_id in BROKEN:
        assert f"mlclf-{plugin_id}" in done.stdout
    assert "plugin 'old' (mlclf-old 1.0) requires mlclf>=99" in done.stdout
    assert "plugin 'twice' (mlclf-twice, other-twice) is claimed by 2 installed packages" in done.stdout
    assert all_broken.imported() == set()


def test_list_as_json(all_broken):
    found = json.loads(run(all_broken.manager({"MLCLF_DISABLE_PLUGINS": "hangs"}), "list", "--json").stdout)
    assert {plugin["id"]: plugin["status"] for plugin in found["plugins"]} == {
        **dict.fromkeys(BROKEN, "unloaded"),
        "hangs": "disabled",
        "old": "incompatible",
        "twice": "conflict",
    }
    assert "builtins" not in found


def test_list_all_names_the_built_ins():
    manager = PluginManager(entry_points=[])
    done = run(manager, "list", "--all")
    assert "lora" in done.stdout
    assert "No plugins are installed." in done.stdout
    names = [spec["name"] for spec in json.loads(run(manager, "list", "--all", "--json").stdout)["builtins"]]
    assert names == [spec.name for specs in BUILTINS.values() for spec in specs]


@pytest.mark.parametrize("plugin_id", BROKEN)
def test_doctor_names_what_is_wrong_and_exits_with_1(all_broken, plugin_id):
    _, status, text, details = BROKEN[plugin_id]
    timeout = "6" if plugin_id == "hangs" else "100"
    done = run(all_broken.manager(), "doctor", plugin_id, "--timeout", timeout)
    assert done.exit_code == 1
    assert f"plugin '{plugin_id}' (mlclf-{plugin_id} 1.0): {status}" in done.stdout
    assert text in done.stdout
    assert details in done.stdout


def test_doctor_of_all_plugins_goes_on_after_a_broken_one(env):
    env.install("crashes", BROKEN["crashes"][0])
    env.install("good", HEADER.replace("{id}", "good"), modules={"parts": PARTS})
    done = run(env.manager(), "doctor")
    assert done.exit_code == 1
    assert "plugin 'good' (mlclf-good 1.0): ok (good:part)" in done.stdout


def test_doctor_leaves_what_is_switched_off_alone(env):
    env.install("hangs", BROKEN["hangs"][0])
    done = run(env.manager({"MLCLF_PLUGINS": ""}), "doctor")
    assert done.exit_code == 0
    assert "plugin 'hangs' (mlclf-hangs 1.0): disabled" in done.stdout


def test_doctor_reports_what_metadata_rules_out(env):
    env.install("old", "", requires=["mlclf>=99"])
    done = run(env.manager(), "doctor", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["status"] == "incompatible"


def test_show_lists_components_without_importing_them(env):
    env.install("good", HEADER.replace("{id}", "good"), modules={"parts": "raise RuntimeError"})
    done = run(env.manager(), "show", "good")
    assert done.exit_code == 0
    assert "head good:part: a part (mlclf_good.parts:Part)" in done.stdout
    found = json.loads(run(env.manager(), "show", "good", "--json").stdout)
    assert (found["api"], found["components"][0]["name"]) == ([1, 0], "good:part")
    assert env.imported() == set()


def test_show_of_a_broken_plugin_exits_with_1(all_broken):
    done = run(all_broken.manager(), "show", "imports")
    assert done.exit_code == 1
    assert "no_such_module_xyz" in done.stdout


@pytest.mark.parametrize("command", ["show", "doctor", "check"])
def test_plugin_that_is_not_installed_is_an_error(command):
    done = run(PluginManager(entry_points=[]), command, "acme")
    assert done.exit_code == 2
    assert "plugin 'acme' is not installed" in done.stderr


def test_check_prints_what_is_wrong_and_exits_with_1(env):
    env.install("good", HEADER.replace("{id}", "good"), package="other-good", modules={"parts": "raise RuntimeError"})
    env.install("good", HEADER.replace("{id}", "good"), package="other-good", requires=["mlclf>=0.1"])
    done = run(env.manager(), "check", "good", "--only", "[good]")
    assert done.exit_code == 1
    assert "plugin 'good': 3 checks passed, 2 failed." in done.stdout
    assert "check_package_name[good]: The plugin 'good' comes from a package named 'other-good'." in done.stdout
    assert "has no upper bound" in done.stdout
    expect = ["--expect", "check_package_name=an old name", "--expect", "check_requirement[good]=to be done"]
    done = run(env.manager(), "check", "good", "--only", "[good]", *expect)
    assert done.exit_code == 0
    assert "check_package_name[good]: an old name" in done.stdout


def test_check_as_json_and_a_snapshot_of_options(tmp_path):
    manager, path = PluginManager(entry_points=[]), tmp_path / "schemas.json"
    assert run(manager, "check", "mlclf", "--write-schemas", str(path)).exit_code == 0
    done = run(manager, "check", "mlclf", "--only", "check_options_schema", "--schemas", str(path), "--json")
    found = json.loads(done.stdout)
    assert found["passed"]
    assert {result["status"] for result in found["results"]} == {"passed"}
    saved = json.loads(path.read_text())
    assert {"head bce", "loss bce"} <= saved.keys()
    saved["head bce"]["schema"]["properties"]["no_more"] = {"type": "integer"}
    path.write_text(json.dumps(saved))
    done = run(manager, "check", "mlclf", "--only", "check_options_schema[bce]", "--schemas", str(path))
    assert done.exit_code == 1
    assert "option 'no_more' is gone" in done.stdout
    assert "set version=2 in ComponentSpec 'bce'" in done.stdout
    path.write_text(json.dumps({"bce": saved["head bce"]}))
    done = run(manager, "check", "mlclf", "--only", "check_options_schema[bce]", "--schemas", str(path))
    assert "is no snapshot of options" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "check_nonsense"], "stands in the id of no check"),
        (["--expect", "check_fit"], "must be CHECK=REASON"),
    ],
)
def test_check_refuses_what_means_nothing(arguments, message):
    with pytest.raises(OptionsError, match=message):
        run(PluginManager(entry_points=[]), "check", "mlclf", *arguments)
