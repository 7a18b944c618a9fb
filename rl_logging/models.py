"""Writing agents and policies into files."""

import pickle
import sys
from pathlib import Path
from typing import Any


def save_model(model: Any, folder: Path, name: str) -> tuple[Path, str]:
    """Write a model into a folder: by its own ``save``, else by torch, else by pickle.

    :param model: an SB3 algorithm or policy, a torch module or dictionary of tensors, or any
        object that can be pickled
    :param name: the file's name, without its suffix
    :return: the file, and how it is to be loaded, in words
    :raises Exception: it cannot be written
    """
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    if _is_of(model, "stable_baselines3.common.base_class", "BaseAlgorithm"):
        path = folder / f"{name}.zip"
        model.save(path)
        return path, f"{kind}.load"
    if _is_of(model, "stable_baselines3.common.policies", "BaseModel"):
        path = folder / f"{name}.pth"
        model.save(str(path))
        return path, f"{kind}.load"
    if _is_of(model, "torch.nn", "Module"):
        path = folder / f"{name}.pt"
        sys.modules["torch"].save(model.state_dict(), path)
        return path, "torch.load, a state_dict"
    if _holds_tensors(model):
        path = folder / f"{name}.pt"
        sys.modules["torch"].save(model, path)
        return path, "torch.load"
    path = folder / f"{name}.pkl"
    with path.open("wb") as file:
        pickle.dump(model, file)
    return path, "pickle.load"


def _is_of(model: Any, module: str, name: str) -> bool:
    """Whether it is of a class of a package that somebody has imported."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(model, kind)


def _holds_tensors(model: Any) -> bool:
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return (
        tensor is not None and isinstance(model, dict) and any(isinstance(v, tensor) for v in model.values())
    )
