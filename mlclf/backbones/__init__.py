"""The built-in backbones: what reads the text."""
