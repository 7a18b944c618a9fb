"""Parts as bytes, between processes. What is no part is not loaded, whatever it says it is."""

import io
import pickle
import zlib
from typing import Any

from rl_logging.distributed.parts import Part

_ALLOWED = {
    ("rl_logging.distributed.parts", "Part"),
    ("rl_logging.distributed.parts", "Extremes"),
    ("rl_logging.distributed.stats", "Stats"),
    ("rl_logging.distributed.bins", "Bins"),
    ("builtins", "frozenset"),
}


def packed(part: Part) -> bytes:
    """The part as bytes."""
    return zlib.compress(pickle.dumps(part, protocol=pickle.HIGHEST_PROTOCOL), level=1)


def unpacked(content: bytes) -> Part:
    """The part in bytes that :func:`packed` gave.

    :raises ValueError: there is none
    """
    try:
        part = _PartsOnly(io.BytesIO(zlib.decompress(content))).load()
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"these {len(content)} bytes are no part: {error}") from error
    if not isinstance(part, Part):
        raise ValueError(f"a part is wanted, not {type(part).__name__}")
    return part


class _PartsOnly(pickle.Unpickler):
    """A pickle from a network may name any function; only the classes of a part are found."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not in a part")
        return super().find_class(module, name)
