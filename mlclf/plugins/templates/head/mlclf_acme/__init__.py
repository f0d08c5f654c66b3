"""A head for mlclf."""
