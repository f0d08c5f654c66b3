"""A backbone for mlclf."""
