"""The version, as installed."""

__version__ = "0.2.0"
