"""What this package takes from peft, imported without the log line that comes with it.

peft imports bitsandbytes where it is installed, and that warns at import that an optional package of kernels for
quantised weights is absent. Nothing here uses them, and a user could do nothing about it.
"""

from __future__ import annotations

import logging

_logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
_level = _logger.level
_logger.setLevel(logging.ERROR)
try:
    from peft import IA3Config, LoraConfig, LoraModel, inject_adapter_in_model
    from peft.tuners.ia3 import IA3Layer
    from peft.tuners.lora.layer import Linear as PeftLoraLinear
    from peft.tuners.lora.layer import LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer
finally:
    _logger.setLevel(_level)

__all__ = [
    "BaseTunerLayer",
    "IA3Config",
    "IA3Layer",
    "LoraConfig",
    "LoraLayer",
    "LoraModel",
    "PeftLoraLinear",
    "inject_adapter_in_model",
]
