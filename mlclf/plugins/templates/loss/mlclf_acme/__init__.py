"""A loss for mlclf."""
