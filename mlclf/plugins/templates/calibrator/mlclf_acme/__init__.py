"""A calibrator for mlclf."""
