"""Moved."""

from rl_logging.mlflow_server import MLflowServer

__all__ = ["MLflowServer"]
