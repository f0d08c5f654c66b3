"""Components registered by a running program instead of a package: for notebooks and experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlclf.exceptions import PluginError, UnknownComponentError
from mlclf.options import Options
from mlclf.plugins.spec import LOCAL_ID, ComponentSpec, Kind, is_component_name
from mlclf.plugins.targets import check_classes

if TYPE_CHECKING:
    from mlclf.plugins.targets import ComponentClass


class LocalComponents:
    """The components ``local:...`` of one process.

    They are not visible in spawned workers, and a model saved with one can be loaded only after the same registration.
    """

    def __init__(self) -> None:
        self._entries: dict[Kind, dict[str, tuple[ComponentSpec, ComponentClass]]] = {}

    def register(self, kind: Kind, component: ComponentClass, name: str) -> None:
        """Add a component; one of the same name is replaced, because a notebook cell may run twice.

        Parameters
        ----------
        kind : Kind
            What it is.
        component : type
            Its class.
        name : str
            ``"local:..."``, the same as ``component`` of its options class.

        Raises
        ------
        PluginError
            If the name has another form.
        PluginLoadError
            If the class is not a component of that kind.
        """
        if not name.startswith(f"{LOCAL_ID}:") or not is_component_name(name):
            raise PluginError(f"a component registered in a program is named 'local:name' in lower case, got {name!r}.")
        options = getattr(component, "Options", None)
        check_classes(kind, name, component, options, f"{kind} {name!r}")
        spec = ComponentSpec(
            name=name,
            target=f"{component.__module__}:{component.__name__}",
            options=f"{component.Options.__module__}:{component.Options.__name__}",
            summary="registered in this process",
        )
        self._entries.setdefault(kind, {})[name] = (spec, component)

    def specs(self, kind: Kind) -> tuple[ComponentSpec, ...]:
        """Return the records of one kind, sorted by name."""
        entries = self._entries.get(kind, {})
        return tuple(entries[name][0] for name in sorted(entries))

    def find(self, kind: Kind, name: str) -> ComponentSpec:
        """Return one record.

        Raises
        ------
        UnknownComponentError
            If nothing was registered under that name.
        """
        return self._entry(kind, name)[0]

    def classes(self, kind: Kind, name: str) -> tuple[ComponentClass, type[Options]]:
        """Return class and options class of one component."""
        component = self._entry(kind, name)[1]
        return component, component.Options

    def _entry(self, kind: Kind, name: str) -> tuple[ComponentSpec, ComponentClass]:
        try:
            return self._entries[kind][name]
        except KeyError:
            raise UnknownComponentError(
                f"no {kind} {name!r} is registered in this process. "
                f"Call mlclf.plugins.register_{kind}(YourClass, name={name!r}) first."
            ) from None
