"""Bundle: a fitted model as a folder of safetensors and JSON."""
