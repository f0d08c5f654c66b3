"""Which checks there are for what."""

from __future__ import annotations

from collections.abc import Callable

from mlclf.plugins import Kind
from mlclf.testing.conformance.by_kind import (
    check_detach,
    check_growth,
    check_layers,
    check_learning_rates,
    check_long_texts,
    check_merge,
    check_source,
    check_state,
)
from mlclf.testing.conformance.estimator import (
    check_estimator_can_be_cloned,
    check_estimator_can_be_pickled,
    check_forms_of_texts,
    check_predictions_agree,
)
from mlclf.testing.conformance.learning import (
    check_difficult_rows,
    check_fit,
    check_fit_is_repeatable,
    check_gradients,
    check_unknown_cells_are_left_out,
)
from mlclf.testing.conformance.options import (
    OPTIONS_CHECKS,
    check_options_are_frozen,
    check_options_as_json,
    check_options_can_be_pickled,
    check_options_have_defaults,
    check_options_refuse_unknown_names,
)
from mlclf.testing.conformance.outputs import (
    check_batch_changes_nothing,
    check_device,
    check_evaluation_is_deterministic,
    check_padding_changes_nothing,
    check_partners,
    check_reads_the_text,
    check_shapes,
    check_values,
)
from mlclf.testing.conformance.packaging import PACKAGE_CHECKS
from mlclf.testing.conformance.saving import (
    check_onnx_parity,
    check_save_and_load,
    check_saved_model_names_the_plugin,
)
from mlclf.testing.conformance.workbench import Workbench

ComponentCheck = Callable[[Workbench], str | None]

_OUTPUTS: tuple[ComponentCheck, ...] = (
    check_partners,
    check_shapes,
    check_values,
    check_reads_the_text,
    check_evaluation_is_deterministic,
    check_padding_changes_nothing,
    check_batch_changes_nothing,
    check_device,
    check_gradients,
)
_MODELS: tuple[ComponentCheck, ...] = (
    check_fit,
    check_fit_is_repeatable,
    check_difficult_rows,
    check_estimator_can_be_cloned,
    check_estimator_can_be_pickled,
    check_forms_of_texts,
    check_predictions_agree,
    check_save_and_load,
    check_saved_model_names_the_plugin,
    check_onnx_parity,
)
_OWN: dict[Kind, tuple[ComponentCheck, ...]] = {
    "backbone": (check_source, check_layers, check_long_texts),
    "strategy": (check_learning_rates, check_state, check_merge, check_detach),
    "head": (check_unknown_cells_are_left_out, check_growth),
}

# What options choose is no part of a network by itself: its options are checked.
_CHOSEN: tuple[Kind, ...] = ("loss", "calibrator", "augmentation")
_CHOSEN_CHECKS: tuple[ComponentCheck, ...] = (
    check_options_have_defaults,
    check_options_are_frozen,
    check_options_refuse_unknown_names,
    check_options_as_json,
    check_options_can_be_pickled,
)

COMPONENT_CHECKS: dict[Kind, tuple[ComponentCheck, ...]] = {
    kind: (*OPTIONS_CHECKS, *_OUTPUTS, *own, *_MODELS) for kind, own in _OWN.items()
} | dict.fromkeys(_CHOSEN, _CHOSEN_CHECKS)

__all__ = ["COMPONENT_CHECKS", "PACKAGE_CHECKS"]
