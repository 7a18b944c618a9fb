"""Metrics of many processes: how values become one, and how they come together."""
