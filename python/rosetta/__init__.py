"""Rosetta Bench: one network, every framework, three languages, the same numbers."""

__version__ = "0.1.0"
