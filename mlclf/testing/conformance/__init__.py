"""The conformance kit: whether a plugin, or a component, keeps the rules of the interfaces."""
