"""Adapters of the league: other projects' rebalancers as planners that stay, each run by the Python of its own venv.

Only the standard library, the tool itself and each other are imported here: a tool's venv has no loadband.
"""
