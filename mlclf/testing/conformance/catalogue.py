"""Which checks there are for what."""

from __future__ import annotations

from collections.abc import Callable

from mlclf.plugins import Kind
from mlclf.testing.conformance.augmentations import (
    check_augmentation_difficult_texts,
    check_augmentation_is_repeatable,
    check_augmentation_leaves_its_input_alone,
    check_augmentation_rows,
    check_augmentation_says_whether_it_changes_anything,
    check_augmentation_tokens,
)
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
from mlclf.testing.conformance.calibrators import (
    check_calibrator_calibrates,
    check_calibrator_cells,
    check_calibrator_fit_is_repeatable,
    check_calibrator_order,
    check_calibrator_rare_labels,
    check_calibrator_state,
    check_calibrator_table,
    check_calibrator_values,
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
from mlclf.testing.conformance.losses import (
    check_loss_batch_changes_nothing,
    check_loss_extreme_logits,
    check_loss_follows_from_counts,
    check_loss_gradients,
    check_loss_label_weights,
    check_loss_precision,
    check_loss_prefers_right_answers,
    check_loss_unknown_cells,
    check_loss_values,
)
from mlclf.testing.conformance.options import OPTIONS_CHECKS
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

# What options choose: tried by itself, and chosen in a model.
_LOSS: tuple[ComponentCheck, ...] = (
    check_loss_values,
    check_loss_precision,
    check_loss_gradients,
    check_loss_batch_changes_nothing,
    check_loss_unknown_cells,
    check_loss_extreme_logits,
    check_loss_prefers_right_answers,
    check_loss_label_weights,
    check_loss_follows_from_counts,
)
_CALIBRATOR: tuple[ComponentCheck, ...] = (
    check_calibrator_values,
    check_calibrator_cells,
    check_calibrator_order,
    check_calibrator_calibrates,
    check_calibrator_rare_labels,
    check_calibrator_state,
    check_calibrator_fit_is_repeatable,
    check_calibrator_table,
)
_AUGMENTATION: tuple[ComponentCheck, ...] = (
    check_augmentation_rows,
    check_augmentation_tokens,
    check_augmentation_is_repeatable,
    check_augmentation_says_whether_it_changes_anything,
    check_augmentation_leaves_its_input_alone,
    check_augmentation_difficult_texts,
)
_CHOSEN_MODELS: tuple[ComponentCheck, ...] = (
    check_fit,
    check_fit_is_repeatable,
    check_estimator_can_be_cloned,
    check_estimator_can_be_pickled,
    check_save_and_load,
    check_saved_model_names_the_plugin,
)
_CHOSEN: dict[Kind, tuple[ComponentCheck, ...]] = {
    "loss": (*_LOSS, *_CHOSEN_MODELS, check_difficult_rows),
    "calibrator": (*_CALIBRATOR, *_CHOSEN_MODELS),
    "augmentation": (*_AUGMENTATION, *_CHOSEN_MODELS, check_difficult_rows),
}

COMPONENT_CHECKS: dict[Kind, tuple[ComponentCheck, ...]] = {
    kind: (*OPTIONS_CHECKS, *_OUTPUTS, *own, *_MODELS) for kind, own in _OWN.items()
} | {kind: (*OPTIONS_CHECKS, *own) for kind, own in _CHOSEN.items()}

__all__ = ["COMPONENT_CHECKS", "PACKAGE_CHECKS"]
