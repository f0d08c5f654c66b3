"""A strategy for mlclf."""
