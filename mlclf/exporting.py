"""Exporting: a fitted estimator in forms that other programs load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlclf.inputs import checked_validation
from mlclf.merged_folder import WeightType, save_merged
from mlclf.model import Model
from mlclf.onnx.entries import Base, Precision
from mlclf.onnx.export import ExportRequest, export_model
from mlclf.onnx.export_report import ExportReport
from mlclf.texts import as_texts


class ExportMixin:
    """Export to ONNX and to a folder of transformers, for an estimator that can be fitted."""

    if TYPE_CHECKING:

        def _fitted(self) -> Model: ...

    def export_onnx(
        self,
        folder: str | os.PathLike[str],
        *,
        precision: Precision = "fp32",
        opset: int = 20,
        labels_output: bool = False,
        example_texts: Any = None,
        validation_data: tuple[Any, Any] | None = None,
        base: Base = "fitted",
    ) -> ExportReport:
        """Write the fitted model into a folder that predicts without torch: ``mlclf.onnx.OnnxClassifier(folder)``.

        The folder is loaded and compared with this model before it is put in place; an export that disagrees leaves
        nothing behind. This model stays as it is.

        Parameters
        ----------
        folder : path
            New, or an exported model that is replaced once the new one is complete.
        precision : {"fp32", "fp16", "int8"}, default="fp32"
            Of the weights: ``"fp16"`` is half as large and made for GPUs, ``"int8"`` smaller and faster on processors.
        opset : int, default=20
            Version of ONNX's operators, from 18 to 23.
        labels_output : bool, default=False
            Whether the graph has a third output ``labels``, for servers that cannot apply thresholds.
        example_texts : sequence of str or None
            Texts to compare on, such as yours look; None takes built-in ones of many lengths.
        validation_data : (X, Y) or None
            Labelled texts on which F1 is measured before and after. In ``"fp16"`` and ``"int8"``, and with
            ``base="original"``, thresholds that were tuned are tuned on them again, for the exported folder.
        base : {"fitted", "original"}, default="fitted"
            For strategies that round pretrained weights (``"qlora"``): whether the rounded weights are exported, with
            which the model was trained, or the original ones. The latter answer otherwise, and need
            ``validation_data``.

        Returns
        -------
        ExportReport
            What was measured; ``print`` it.

        Raises
        ------
        OptionsError, InvalidInputError, IncompatibleComponentsError, MissingExtraError
            Before any work.
        ExportError, ParityError
            If the model cannot be expressed, or the exported one answers otherwise.
        """
        model = self._fitted()
        request = ExportRequest(
            precision=precision,
            opset=opset,
            labels_output=labels_output,
            example_texts=None if example_texts is None else as_texts(example_texts),
            validation=None if validation_data is None else checked_validation(validation_data, model.labels),
            base=base,
        )
        return export_model(model, Path(folder), request)

    def merge_and_save(self, folder: str | os.PathLike[str], *, dtype: WeightType = "float32") -> None:
        """Write the fitted backbone, merged, into a folder that transformers and serving engines load.

        The folder holds merged weights, with the output layer over the vocabulary where the head uses it, configuration
        and tokenizer, and nothing of mlclf but what the head needs to be asked by another program: ``prompt.json`` of
        heads that answer in tokens. It is loaded with transformers and compared with this model before it is put in
        place. What the head itself learned, thresholds and calibration are not in it: to load the whole classifier
        again, use :meth:`save`. This model stays as it is.

        Parameters
        ----------
        folder : path
            To be made; one that is there must be empty.
        dtype : {"float32", "bfloat16", "float16"}, default="float32"
            Of the written weights. They are merged in float32, which needs four bytes of main memory a weight.

        Raises
        ------
        OptionsError, IncompatibleComponentsError, NotMergeableError
            Before any work.
        ExportError
            If transformers computes something else from the folder.

        Examples
        --------
        >>> import tempfile
        >>> from mlclf import LlmOptions, MultiLabelClassifier, TrainingOptions
        >>> from mlclf.testing import tiny_decoder
        >>> texts, labels = ["good food", "bad food", "good staff"] * 4, [["a"], ["b"], ["a", "c"]] * 4
        >>> with tempfile.TemporaryDirectory() as place:
        ...     backbone = LlmOptions(model=str(tiny_decoder("llama", f"{place}/llama")))
        ...     clf = MultiLabelClassifier(backbone, training=TrainingOptions(epochs=1), validation=None, verbose=0)
        ...     clf.fit(texts, labels).merge_and_save(f"{place}/merged")
        ...     sorted(path.name for path in Path(f"{place}/merged").iterdir())
        ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
        """
        save_merged(self._fitted(), folder, dtype)
