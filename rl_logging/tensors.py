"""Numbers that are on a device: they stay there until somebody needs them, and come in one transfer."""

import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from rl_logging.values import NUMBERS

Key = TypeVar("Key")


def is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor; torch is not imported to find out, and the object itself not asked."""
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(type(value), torch.Tensor)


def fetched(values: Mapping[Key, Any]) -> dict[Key, Any]:
    """The same values, those numbers that are tensors as Python numbers.

    One transfer for each device and type: each alone would wait for all the device's work.
    """
    found = dict(values)
    if set(map(type, found.values())) <= NUMBERS.keys():  # as nearly always; the loop below takes longer
        return found
    groups: dict[Any, list[Key]] = {}
    for key, value in values.items():
        if type(value) not in NUMBERS and is_tensor(value) and value.numel() == 1 and not value.is_sparse:
            groups.setdefault((value.device, value.dtype), []).append(key)
    for keys in groups.values():
        together = sys.modules["torch"].stack([values[key].detach().reshape(()) for key in keys])
        found.update(zip(keys, together.tolist(), strict=True))
    return found


def joined(arrays: list[Any]) -> np.ndarray:
    """Flat arrays and tensors as one array of doubles; one transfer for each device."""
    found = [each for each in arrays if not is_tensor(each)]
    groups: dict[Any, list[Any]] = {}
    for tensor in (each for each in arrays if is_tensor(each)):
        groups.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    found += [sys.modules["torch"].cat(group).cpu().double().numpy() for group in groups.values()]
    return np.concatenate(found)
