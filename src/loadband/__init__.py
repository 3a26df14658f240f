"""loadband holds a machine's CPU utilization inside a band and says truthfully what it does."""

__version__ = "0.2.0"
"""That of pyproject.toml: to ask importlib.metadata for it costs a run 20 ms and some memory."""
