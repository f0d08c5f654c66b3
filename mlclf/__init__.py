"""mlclf: multi-label text classification with fine-tuned language models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlclf._version import __version__

if TYPE_CHECKING:
    from mlclf.augmentation import register_back_translation
    from mlclf.backbones.bert import BertOptions
    from mlclf.backbones.llm import LlmOptions
    from mlclf.bundle.card import CardFacts
    from mlclf.classifier import MultiLabelClassifier
    from mlclf.heads.bce import BceOptions
    from mlclf.heads.generation.options import PromptGenerationOptions
    from mlclf.heads.label_query import LabelQueryOptions
    from mlclf.labels import LabelSpace, to_indicator
    from mlclf.multitask.classifier import MultiTaskClassifier
    from mlclf.options import AugmentationOptions, Options, TrainingOptions
    from mlclf.plugins import register_backbone, register_head, register_strategy
    from mlclf.pretraining.language_model import pretrain_lm
    from mlclf.prompts.options import PromptOptions
    from mlclf.replay import ReplayOptions
    from mlclf.report import Report
    from mlclf.strategies.adapter import AdapterOptions
    from mlclf.strategies.adapter_sources import fuse_adapters, stack_adapters
    from mlclf.strategies.auto import AutoOptions
    from mlclf.strategies.bitfit import BitfitOptions
    from mlclf.strategies.features import FeaturesOptions
    from mlclf.strategies.full import FullOptions
    from mlclf.strategies.head_only import HeadOnlyOptions
    from mlclf.strategies.ia3 import Ia3Options
    from mlclf.strategies.lora import LoraOptions
    from mlclf.strategies.lora_merging import merge_loras
    from mlclf.strategies.p_tuning import PTuningOptions
    from mlclf.strategies.p_tuning_v2 import PTuningV2Options
    from mlclf.strategies.partial import PartialOptions
    from mlclf.strategies.prefix import PrefixOptions
    from mlclf.strategies.prompt_tuning import PromptTuningOptions
    from mlclf.strategies.qlora import QloraOptions
    from mlclf.thresholds import Thresholds

# Public names and where they live. They are resolved on first use, so that `import mlclf` brings in neither torch nor
# scikit-learn.
_HOMES = {
    "AdapterOptions": "mlclf.strategies.adapter",
    "AugmentationOptions": "mlclf.options",
    "AutoOptions": "mlclf.strategies.auto",
    "BceOptions": "mlclf.heads.bce",
    "BertOptions": "mlclf.backbones.bert",
    "BitfitOptions": "mlclf.strategies.bitfit",
    "CardFacts": "mlclf.bundle.card",
    "FeaturesOptions": "mlclf.strategies.features",
    "FullOptions": "mlclf.strategies.full",
    "HeadOnlyOptions": "mlclf.strategies.head_only",
    "Ia3Options": "mlclf.strategies.ia3",
    "LabelQueryOptions": "mlclf.heads.label_query",
    "LabelSpace": "mlclf.labels",
    "LlmOptions": "mlclf.backbones.llm",
    "LoraOptions": "mlclf.strategies.lora",
    "MultiLabelClassifier": "mlclf.classifier",
    "MultiTaskClassifier": "mlclf.multitask.classifier",
    "Options": "mlclf.options",
    "PTuningOptions": "mlclf.strategies.p_tuning",
    "PTuningV2Options": "mlclf.strategies.p_tuning_v2",
    "PartialOptions": "mlclf.strategies.partial",
    "PrefixOptions": "mlclf.strategies.prefix",
    "PromptGenerationOptions": "mlclf.heads.generation.options",
    "PromptOptions": "mlclf.prompts.options",
    "PromptTuningOptions": "mlclf.strategies.prompt_tuning",
    "QloraOptions": "mlclf.strategies.qlora",
    "ReplayOptions": "mlclf.replay",
    "Report": "mlclf.report",
    "Thresholds": "mlclf.thresholds",
    "TrainingOptions": "mlclf.options",
    "register_back_translation": "mlclf.augmentation",
    "fuse_adapters": "mlclf.strategies.adapter_sources",
    "merge_loras": "mlclf.strategies.lora_merging",
    "pretrain_lm": "mlclf.pretraining.language_model",
    "register_backbone": "mlclf.plugins",
    "register_head": "mlclf.plugins",
    "register_strategy": "mlclf.plugins",
    "stack_adapters": "mlclf.strategies.adapter_sources",
    "to_indicator": "mlclf.labels",
}

__all__ = [
    "AdapterOptions",
    "AugmentationOptions",
    "AutoOptions",
    "BceOptions",
    "BertOptions",
    "BitfitOptions",
    "CardFacts",
    "FeaturesOptions",
    "FullOptions",
    "HeadOnlyOptions",
    "Ia3Options",
    "LabelQueryOptions",
    "LabelSpace",
    "LlmOptions",
    "LoraOptions",
    "MultiLabelClassifier",
    "MultiTaskClassifier",
    "Options",
    "PTuningOptions",
    "PTuningV2Options",
    "PartialOptions",
    "PrefixOptions",
    "PromptGenerationOptions",
    "PromptOptions",
    "PromptTuningOptions",
    "QloraOptions",
    "ReplayOptions",
    "Report",
    "Thresholds",
    "TrainingOptions",
    "__version__",
    "fuse_adapters",
    "merge_loras",
    "pretrain_lm",
    "register_back_translation",
    "register_backbone",
    "register_head",
    "register_strategy",
    "stack_adapters",
    "to_indicator",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlclf' has no attribute {name!r}")
    import importlib

    try:
        module = importlib.import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        from mlclf.exceptions import MissingExtraError

        if error.name and error.name.split(".")[0] in ("torch", "transformers", "peft", "accelerate", "sklearn"):
            raise MissingExtraError(
                f"mlclf.{name} needs {error.name!r}, which is not installed. Install it: pip install 'mlclf[train]'"
            ) from error
        raise
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
