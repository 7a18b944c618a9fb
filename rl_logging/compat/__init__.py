"""Loggers of other projects over this package: change one import, and keep the calls."""
