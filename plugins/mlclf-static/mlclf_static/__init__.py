"""Backbones of mlclf without a transformer: static and hashed token embeddings."""
