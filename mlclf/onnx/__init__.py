"""Export to ONNX, and prediction from an exported folder without torch."""
