"""Ways out: the components that an error names in the place of a refused one, each tried before it is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from mlclf.exceptions import MlclfError, UnsuitableComponentError
from mlclf.plugins.spec import Kind

# What may be named, the likeliest first. Strategies that load weights in a way of their own cannot be tried on a
# backbone that is there, and those for few architectures are seldom a way out.
CANDIDATES: Mapping[Kind, tuple[str, ...]] = {
    "strategy": ("lora", "ia3", "adapter", "full", "head-only", "features"),
    "head": ("bce", "label-query"),
}
# Strategies that ask a loaded backbone for nothing. Before it is loaded, only these can be promised where a backbone
# need not be a transformer.
UNDEMANDING = ("full", "head-only", "features")


def way_out(kind: Kind, candidates: Iterable[str], attempt: Callable[[str], object]) -> str:
    """Return a sentence that names the candidates which an attempt does not refuse.

    Parameters
    ----------
    kind : Kind
        What is to be replaced.
    candidates : iterable of str
        Names of components.
    attempt : callable
        Called with a name; raises where the component cannot be used. An :class:`UnsuitableComponentError` about
        another kind does not count: what stands in the way then is not the component that was tried.

    Returns
    -------
    str

    Examples
    --------
    >>> way_out("strategy", ["lora", "full"], lambda name: None)
    "Use strategy='lora' or 'full'."
    """
    usable = [name for name in candidates if _accepted(kind, name, attempt)]
    if not usable:
        return f"None of the usual ones can take its place: choose another {kind} and backbone."
    *others, last = map(repr, usable)
    return f"Use {kind}={', '.join(others)} or {last}." if others else f"Use {kind}={last}."


def _accepted(kind: Kind, name: str, attempt: Callable[[str], object]) -> bool:
    try:
        attempt(name)
    except UnsuitableComponentError as error:
        return error.kind != kind
    except MlclfError:
        return False
    return True
