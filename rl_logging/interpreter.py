"""How a module of this package is run in a process of its own."""

import errno
import os
import sys


def command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module by this process's interpreter.

    :raises FileNotFoundError: this process does not know its interpreter, as embedded ones
    """
    if not sys.executable:
        raise FileNotFoundError(errno.ENOENT, "this process does not know its Python interpreter")
    return [sys.executable, "-m", module, *arguments]


def environment() -> dict[str, str]:
    """The environment in which modules are found where this process finds them."""
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
