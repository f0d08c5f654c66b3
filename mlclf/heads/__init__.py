"""Built-in heads, and what heads of plugins may build on: where a bias starts, and arithmetic in float32."""

from mlclf.heads.bias import first_bias, restart_bias
from mlclf.heads.precision import without_autocast

__all__ = ["first_bias", "restart_bias", "without_autocast"]
