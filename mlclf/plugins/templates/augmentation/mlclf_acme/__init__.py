"""An augmentation for mlclf."""
