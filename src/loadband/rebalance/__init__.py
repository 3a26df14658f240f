"""The proof: whether a platform notices an overload, moves something and comes back to balance, and when.

`events` holds the values of a recording. Whatever writes one (`run`, the platforms, the rebalancers) does I/O; whatever
reads one (`figures`, `verdict`, `report`) is pure. docs/architecture.md draws the whole.
"""
