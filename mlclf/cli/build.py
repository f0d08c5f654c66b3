"""From a configuration to a classifier: names and values become the objects of the Python API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlclf.cli.config import ComponentConfig, TrainConfig
from mlclf.cli.merging import COMPONENTS
from mlclf.exceptions import OptionsError
from mlclf.hints import did_you_mean
from mlclf.options import Options, TrainingOptions

if TYPE_CHECKING:
    from mlclf.classifier import MultiLabelClassifier

# Keys that are parameters of the classifier as they stand.
_PLAIN = ("classes", "validation", "thresholds", "calibration", "replay", "device", "random_state")


def make_classifier(
    config: TrainConfig, *, classes: tuple[str | int, ...] | None, verbose: int
) -> MultiLabelClassifier:
    """Make the classifier that a configuration describes.

    Keys that were not given are not passed on: their defaults are those of the classifier.

    Parameters
    ----------
    config : TrainConfig
    classes : tuple of str or int, or None
        Labels in column order where the data files say it and the configuration does not.
    verbose : int
        0 for no progress bar.

    Raises
    ------
    OptionsError, PluginError
        If a component is not known or an option breaks its rule.
    """
    from mlclf import MultiLabelClassifier

    given: dict[str, Any] = {name: getattr(config, name) for name in _PLAIN if name in config.model_fields_set}
    if given.get("classes") is None and classes is not None:
        given["classes"] = list(classes)
    for kind in COMPONENTS:
        section: ComponentConfig | list[ComponentConfig] = getattr(config, kind)
        if isinstance(section, list):
            given[kind] = [make_component(kind, part, default="") for part in section]
        else:
            given[kind] = make_component(kind, section, default=getattr(MultiLabelClassifier(), kind))
    return MultiLabelClassifier(training=TrainingOptions(**config.training), verbose=verbose, **given)


def make_component(kind: str, section: ComponentConfig, default: str | Options) -> str | Options:
    """Return the component of a section: its name, or its options where some are given.

    Parameters
    ----------
    kind : {"backbone", "strategy", "head"}
    section : ComponentConfig
    default : str or Options
        Taken where the section gives no name.

    Raises
    ------
    OptionsError, PluginError
    """
    from mlclf.plugins import resolve

    choice = section.name or default
    if not section.options:
        return choice
    options: Options = resolve(kind, choice)[2]  # type: ignore[call-overload]  # kind is one of three
    known = type(options).model_fields
    for name in section.options:
        if name not in known:
            raise OptionsError(
                f"{kind} {options.component!r} has no option {name!r}.{did_you_mean(name, known)} "
                f"It has: {', '.join(sorted(known)) or 'none'}."
            )
    return options.replace(**section.options).validated()
