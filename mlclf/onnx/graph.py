"""Graph: a fitted network as one ONNX model, from token ids to logits, probabilities and, on request, labels."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.hooks import remove_hook_from_module
from torch import Tensor, nn

from mlclf._version import __version__
from mlclf.calibration import PlattScaling
from mlclf.exceptions import ExportError
from mlclf.interfaces import BackboneOutput, Batch, LogitsHead, Strategy
from mlclf.network import MultiLabelNetwork
from mlclf.onnx.entries import INPUTS, LABELS_OUTPUT, OUTPUTS
from mlclf.onnx.folder import WEIGHTS_NAME
from mlclf.probabilities import log_odds
from mlclf.thresholds import Thresholds

# A protobuf file ends at 2 GiB; more weights than this stand in a file of their own.
_ONE_FILE = 2_000_000_000

# At least two rows and more than a token or two, or the exporter takes the sizes for constants; with padding, so that
# no model may skip its mask.
_EXAMPLE_ROWS, _EXAMPLE_LENGTH = 2, 8

# What the exporter notes of each operation: the modules around it.
_SCOPES = "pkg.torch.onnx.name_scopes"
HEAD = "head/"

# They report every optional package that is absent and every name that they replace.
_NOISY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


class ExportableNetwork(nn.Module):
    """A network as ONNX sees it: tensors in, tensors out, one row a window.

    Parameters
    ----------
    network : MultiLabelNetwork
        With a head that gives logits.
    calibrator : PlattScaling or None
        Applied to the probabilities.
    thresholds : Thresholds or None
        Adds the third output; None leaves it out.
    """

    scale: Tensor
    offset: Tensor
    thresholds: Tensor

    def __init__(
        self, network: MultiLabelNetwork, calibrator: PlattScaling | None, thresholds: Thresholds | None
    ) -> None:
        super().__init__()
        self.network = network
        self.calibrated, self.decides = calibrator is not None, thresholds is not None
        self.top_k = None if thresholds is None else thresholds.top_k
        if calibrator is not None:
            self.register_buffer("scale", torch.from_numpy(calibrator.scale.copy()))
            self.register_buffer("offset", torch.from_numpy(calibrator.offset.copy()))
            # Where mlclf.calibration cuts log-odds, whose float32 probabilities say nothing more.
            self.edge = float(log_odds(1.0))
        if thresholds is not None:
            self.register_buffer("thresholds", torch.from_numpy(thresholds.values.copy()))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Return logits and probabilities, float32 ``(rows, n_labels)``, and labels, int8, where asked for."""
        head = self.network.head
        assert isinstance(head, LogitsHead)
        batch = Batch(input_ids, attention_mask, n_samples=input_ids.shape[0])
        output = head.features(self.network.backbone, batch)
        # A backbone of half precision ends here: the head computes in float32, as it does in training.
        output = BackboneOutput(output.tokens.float(), output.mask, output.pooled.float(), output.vocabulary)
        logits = head.features_to_logits(output).float()
        calibrated = logits.clamp(-self.edge, self.edge) * self.scale + self.offset if self.calibrated else logits
        probabilities = torch.sigmoid(calibrated)
        if not self.decides:
            return logits, probabilities
        return logits, probabilities, self._labels(probabilities)

    def _labels(self, probabilities: Tensor) -> Tensor:
        """Decide as ``mlclf.decisions.decide_dense`` does; ONNX's TopK takes equal values in column order too."""
        applies = (probabilities >= self.thresholds) & (probabilities > 0)
        if self.top_k is not None and self.top_k < probabilities.shape[1]:
            ranked = torch.where(applies, probabilities, -1.0)
            best = torch.topk(ranked, self.top_k, dim=1).indices
            applies = applies & torch.zeros_like(probabilities).scatter(1, best, 1.0).bool()
        return applies.to(torch.int8)


def merged_copy(network: MultiLabelNetwork, strategy: Strategy) -> MultiLabelNetwork:
    """Return a copy of a network on the processor, in float32, merged as far as its strategy can.

    Parameters
    ----------
    network : MultiLabelNetwork
        Left as it is.
    strategy : Strategy
        That adapted it. What it cannot merge stays in the copy as modules.

    Returns
    -------
    MultiLabelNetwork
        In evaluation mode.

    Raises
    ------
    NotMergeableError
        If a strategy that declares that it can merge cannot merge these weights.
    """
    twin = copy_to_processor(network).float().eval()
    with torch.no_grad():
        strategy.merge_partially(twin.backbone)
    return twin.float().eval().requires_grad_(False)


def copy_to_processor(network: MultiLabelNetwork) -> MultiLabelNetwork:
    """Return a deep copy on the processor, whose parameters and buffers were never doubled on a graphics card."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        if type(parameter) is nn.Parameter:
            memo[id(parameter)] = nn.Parameter(parameter.detach().cpu().clone(), parameter.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = buffer.detach().cpu().clone()
    twin = copy.deepcopy(network, memo)
    remove_hook_from_module(twin, recurse=True)  # accelerate's, of a model that was spread over devices
    return twin


def write_graph(network: ExportableNetwork, path: Path, opset: int) -> None:
    """Write a network as ONNX.

    Parameters
    ----------
    network : ExportableNetwork
        In evaluation mode on the processor.
    path : Path
        File to write; weights of more than 2 GB go into ``model.onnx.data`` beside it.
    opset : int
        Version of ONNX's operators.

    Raises
    ------
    ExportError
        If the exporter fails, or gives another opset than was asked for.
    """
    with quiet_exporter():
        try:
            program = _export(network, opset)
        except Exception as error:  # the exporter raises what its many parts raise
            raise ExportError(
                f"torch.onnx could not express this model at opset {opset}: {reason(error)} If a component of yours "
                "computes with torch operations that ONNX lacks, rewrite them, or declare it not exportable."
            ) from error
        _strip(program.model)
        weights = program.model.graph.initializers.values()
        large = sum(value.const_value.nbytes for value in weights if value.const_value is not None) > _ONE_FILE
        program.save(str(path), external_data=large)
    _finish(path, opset)


def _export(network: ExportableNetwork, opset: int) -> Any:
    """Trace a network, batch and length open."""
    ids = torch.full((_EXAMPLE_ROWS, _EXAMPLE_LENGTH), network.network.backbone.pad_id, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, _EXAMPLE_LENGTH // 2 :] = 0
    with torch.no_grad():
        return torch.onnx.export(
            network,
            (ids, mask),
            input_names=list(INPUTS),
            output_names=[*OUTPUTS, LABELS_OUTPUT] if network.decides else list(OUTPUTS),
            dynamic_shapes={name: {0: "batch", 1: "length"} for name in INPUTS},
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )


def _strip(model: Any) -> None:
    """Remove from an intermediate model what tells of the machine that it was made on: stack traces, paths."""
    model.metadata_props.clear()
    for node in model.graph.all_nodes():
        if "'network.head" in node.metadata_props.get(_SCOPES, ""):
            node.name = f"{HEAD}{node.name}"
        node.metadata_props.clear()
        node.doc_string = None


def _finish(path: Path, opset: int) -> None:
    """Remove stale shapes from a written model, and have onnx check it."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    # onnxruntime's tools change weights and then meet the old shapes here.
    del model.graph.value_info[:]
    model.producer_name, model.producer_version = "mlclf", __version__
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path), full_check=True)
    found = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if found != opset:
        raise ExportError(
            f"opset={opset} was asked for, and torch.onnx wrote {found}, because it cannot convert this model. "
            f"Use opset={found}."
        )


def replace_graph(model: Any, path: Path) -> None:
    """Write a changed model where the original is, in one file where it fits.

    Parameters
    ----------
    model : onnx.ModelProto
        With its weights.
    path : Path
        The graph; a file of weights beside it is replaced or removed.
    """
    import onnx

    path.with_name(WEIGHTS_NAME).unlink(missing_ok=True)
    large = sum(len(weight.raw_data) for weight in model.graph.initializer) > _ONE_FILE
    onnx.save_model(model, str(path), save_as_external_data=large, location=WEIGHTS_NAME if large else None)
    onnx.checker.check_model(str(path), full_check=True)


def set_thresholds(path: Path, thresholds: Thresholds) -> None:
    """Change the thresholds in a written graph that decides about labels.

    Parameters
    ----------
    path : Path
        The graph.
    thresholds : Thresholds
        As many as the graph has.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    (weight,) = [weight for weight in model.graph.initializer if weight.name == "thresholds"]
    weight.CopyFrom(onnx.numpy_helper.from_array(thresholds.values, "thresholds"))
    path.write_bytes(model.SerializeToString())


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keep the exporter's warnings and log lines away from the user, who could do nothing about them."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def reason(error: Exception) -> str:
    """Return the innermost cause of an error, in one line that ends with a full stop."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:300].rstrip('.')}."
