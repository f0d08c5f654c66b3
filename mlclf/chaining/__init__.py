"""Chaining: several strategies on one backbone, trained together."""
