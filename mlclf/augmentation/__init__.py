"""Augmentation: training texts that are changed anew in every epoch, free of torch.

``base.py`` is the interface, which plugins implement too. The built-in one consists of techniques: each is a class in
a file of its own with one method ``apply``; ``techniques.py`` puts those that the options ask for in order and gives
each a stream of random numbers of its own.
"""

from mlclf.augmentation.back_translation import register_back_translation

__all__ = ["register_back_translation"]
