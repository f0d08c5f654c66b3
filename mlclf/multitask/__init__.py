"""Many label sets from one set of backbone weights."""
