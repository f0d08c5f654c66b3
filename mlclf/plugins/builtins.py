"""The components that come with mlclf, declared by the same records as those of plugins.

They stand in a table instead of entry points so that they are found without package metadata too: from a zip file,
a vendored copy or a source tree.
"""

from __future__ import annotations

from mlclf.plugins.spec import ComponentSpec, Kind

BUILTINS: dict[Kind, tuple[ComponentSpec, ...]] = {
    "backbone": (
        ComponentSpec(
            name="bert",
            target="mlclf.backbones.bert:BertBackbone",
            options="mlclf.backbones.bert:BertOptions",
            summary="Any encoder of the BERT family, by model id or folder",
            families=("encoder",),
            exportable=True,
        ),
        ComponentSpec(
            name="llm",
            target="mlclf.backbones.llm:LlmBackbone",
            options="mlclf.backbones.llm:LlmOptions",
            summary="Any causal language model, by model id or folder",
            families=("causal-lm",),
            exportable=True,
        ),
    ),
    "strategy": (
        ComponentSpec(
            name="full",
            target="mlclf.strategies.full:FullStrategy",
            options="mlclf.strategies.full:FullOptions",
            summary="Fine-tune all weights",
        ),
        ComponentSpec(
            name="head-only",
            target="mlclf.strategies.head_only:HeadOnlyStrategy",
            options="mlclf.strategies.head_only:HeadOnlyOptions",
            summary="Train head and pooling over a constant backbone",
        ),
        ComponentSpec(
            name="partial",
            target="mlclf.strategies.partial:PartialStrategy",
            options="mlclf.strategies.partial:PartialOptions",
            summary="Fine-tune the last layers",
        ),
        ComponentSpec(
            name="features",
            target="mlclf.strategies.features:FeaturesStrategy",
            options="mlclf.strategies.features:FeaturesOptions",
            summary="Train the head on features that are computed once",
        ),
        ComponentSpec(
            name="lora",
            target="mlclf.strategies.lora:LoraStrategy",
            options="mlclf.strategies.lora:LoraOptions",
            summary="Low-rank updates of linear layers (LoRA, DoRA, rsLoRA)",
        ),
        ComponentSpec(
            name="adapter",
            target="mlclf.strategies.adapter:AdapterStrategy",
            options="mlclf.strategies.adapter:AdapterOptions",
            summary="Bottleneck adapters between frozen layers (Houlsby, Pfeiffer, parallel)",
        ),
        ComponentSpec(
            name="bitfit",
            target="mlclf.strategies.bitfit:BitfitStrategy",
            options="mlclf.strategies.bitfit:BitfitOptions",
            summary="Fine-tune the biases",
        ),
        ComponentSpec(
            name="ia3",
            target="mlclf.strategies.ia3:Ia3Strategy",
            options="mlclf.strategies.ia3:Ia3Options",
            summary="Learned factors of keys, values and inner activations",
        ),
        ComponentSpec(
            name="prefix",
            target="mlclf.strategies.prefix:PrefixStrategy",
            options="mlclf.strategies.prefix:PrefixOptions",
            summary="Learned keys and values before every attention layer, by a network",
        ),
        ComponentSpec(
            name="p-tuning-v2",
            target="mlclf.strategies.p_tuning_v2:PTuningV2Strategy",
            options="mlclf.strategies.p_tuning_v2:PTuningV2Options",
            summary="Learned keys and values before every attention layer",
        ),
        ComponentSpec(
            name="p-tuning",
            target="mlclf.strategies.p_tuning:PTuningStrategy",
            options="mlclf.strategies.p_tuning:PTuningOptions",
            summary="Virtual tokens among the embeddings, by an LSTM or an MLP",
        ),
        ComponentSpec(
            name="prompt-tuning",
            target="mlclf.strategies.prompt_tuning:PromptTuningStrategy",
            options="mlclf.strategies.prompt_tuning:PromptTuningOptions",
            summary="Virtual tokens among the embeddings",
        ),
        ComponentSpec(
            name="qlora",
            target="mlclf.strategies.qlora:QloraStrategy",
            options="mlclf.strategies.qlora:QloraOptions",
            summary="Low-rank updates over weights of 4 or 8 bits (QLoRA)",
        ),
    ),
    "head": (
        ComponentSpec(
            name="bce",
            target="mlclf.heads.bce:BceHead",
            options="mlclf.heads.bce:BceOptions",
            summary="One logit a label from pooled features, linear or MLP",
            exportable=True,
        ),
        ComponentSpec(
            name="label-query",
            target="mlclf.heads.label_query:LabelQueryHead",
            options="mlclf.heads.label_query:LabelQueryOptions",
            summary="One logit a label from its name, read behind the text",
            families=("encoder", "causal-lm", "masked-lm"),
            exportable=True,
        ),
        ComponentSpec(
            name="verbalizer",
            target="mlclf.heads.verbalizer:VerbalizerHead",
            options="mlclf.heads.verbalizer:VerbalizerOptions",
            summary="What a masked language model expects in a prompt's hidden place",
            families=("encoder", "masked-lm"),
            exportable=True,
        ),
        ComponentSpec(
            name="prompt-generation",
            target="mlclf.heads.generation.head:PromptGenerationHead",
            options="mlclf.heads.generation.options:PromptGenerationOptions",
            summary="A causal language model writes the labels, and can write nothing else",
            families=("causal-lm",),
            exportable=False,
        ),
    ),
    "loss": (
        ComponentSpec(
            name="bce",
            target="mlclf.losses.bce:BceLoss",
            options="mlclf.losses.bce:BceLossOptions",
            summary="Binary cross-entropy",
        ),
        ComponentSpec(
            name="balanced",
            target="mlclf.losses.balanced:BalancedLoss",
            options="mlclf.losses.balanced:BalancedOptions",
            summary="Binary cross-entropy with weighted positives",
        ),
        ComponentSpec(
            name="focal",
            target="mlclf.losses.focal:FocalLoss",
            options="mlclf.losses.focal:FocalOptions",
            summary="Easy cells count less",
        ),
        ComponentSpec(
            name="asymmetric",
            target="mlclf.losses.asymmetric:AsymmetricLoss",
            options="mlclf.losses.asymmetric:AsymmetricOptions",
            summary="Easy negatives count less or nothing (ASL)",
        ),
        ComponentSpec(
            name="zlpr",
            target="mlclf.losses.zlpr:ZlprLoss",
            options="mlclf.losses.zlpr:ZlprOptions",
            summary="Positives ranked above 0 and above negatives",
        ),
        ComponentSpec(
            name="distribution-balanced",
            target="mlclf.losses.distribution_balanced:DistributionBalancedLoss",
            options="mlclf.losses.distribution_balanced:DistributionBalancedOptions",
            summary="Weights against co-occurring labels and many negatives",
        ),
    ),
    "calibrator": (
        ComponentSpec(
            name="platt",
            target="mlclf.calibrators.platt:PlattCalibrator",
            options="mlclf.calibrators.platt:PlattOptions",
            summary="A scale and an offset of each label's log-odds",
            exportable=True,
        ),
    ),
    "augmentation": (
        ComponentSpec(
            name="standard",
            target="mlclf.augmentation.techniques:StandardAugmentation",
            options="mlclf.options:AugmentationOptions",
            summary="Words, spans of tokens, mixtures of texts, translations",
        ),
    ),
}

# Names that stand for a component which is chosen later. They can be given like components and have options, but no
# model consists of them, so that nothing which goes through all components meets them.
STAND_INS: dict[Kind, tuple[ComponentSpec, ...]] = {
    "backbone": (),
    "strategy": (
        ComponentSpec(
            name="auto",
            target="mlclf.strategies.auto:AutoStrategy",
            options="mlclf.strategies.auto:AutoOptions",
            summary="Choose by rows, size of the backbone, memory and deployment",
        ),
    ),
    "head": (),
    "loss": (),
    "calibrator": (),
    "augmentation": (),
}

# Plugins published by this project: for these alone an error may name the package to install.
FIRST_PARTY_PACKAGES: dict[str, str] = {
    plugin_id: f"mlclf-{plugin_id}"
    for plugin_id in ("label-attention", "label-descriptions", "minilm", "norms", "static")
}
