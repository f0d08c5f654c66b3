"""The plugin keeps the rules that every plugin of mlclf keeps."""

from mlclf.testing import Check, parametrize_plugin_checks


@parametrize_plugin_checks("acme")
def test_plugin_keeps_the_rule(check: Check) -> None:
    check()
