"""The configuration of NeMo-RL's loggers: what is allowed, and what it means for our outputs."""

import difflib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict, get_type_hints


class WandbConfig(TypedDict, total=False):
    """Where Weights & Biases has the run; more keys are arguments of ``wandb.init``."""

    project: str
    name: str


class SwanlabConfig(TypedDict, total=False):
    """Where SwanLab has the run; more keys are arguments of ``swanlab.init``."""

    project: str
    name: str


class TensorboardConfig(TypedDict, total=False):
    """The folder of the event files; one that is not absolute is in the logger's ``log_dir``."""

    log_dir: str


class MLflowConfig(TypedDict, total=False):
    """Where MLflow has the run; more keys are arguments of :class:`rl_logging.MLflowOutputFormat`."""

    experiment_name: str
    run_name: str
    tracking_uri: str


class ClearMLConfig(TypedDict, total=False):
    """Where ClearML has the task; more keys are arguments of ``Task.init``."""

    project_name: str
    task_name: str


class GPUMonitoringConfig(TypedDict, total=False):
    """How often GPUs are asked, and how often that is logged, in seconds."""

    collection_interval: int | float
    flush_interval: int | float


class LoggerConfig(TypedDict, total=False):
    """What :class:`rl_logging.compat.nemo_rl.Logger` is told."""

    log_dir: str | Path
    wandb_enabled: bool
    swanlab_enabled: bool
    tensorboard_enabled: bool
    mlflow_enabled: bool
    clearml_enabled: bool
    wandb: WandbConfig
    swanlab: SwanlabConfig
    tensorboard: TensorboardConfig
    mlflow: MLflowConfig
    clearml: ClearMLConfig
    monitor_gpus: bool
    gpu_monitoring: GPUMonitoringConfig
    gpu_collection_interval: int | float
    gpu_flush_interval: int | float
    num_val_samples_to_print: int


SECTIONS: dict[str, type] = {
    "wandb": WandbConfig,
    "swanlab": SwanlabConfig,
    "tensorboard": TensorboardConfig,
    "mlflow": MLflowConfig,
    "clearml": ClearMLConfig,
}
_WORDS: dict[Any, str] = {
    str: "a text",
    str | Path: "a text or a path",
    bool: "true or false",
    int: "a whole number",
    int | float: "a number",
}
_INTERVAL_S = 10
_SEP = "."  # NeMo-RL's, between the names of nested hyperparameters


def read_config(given: Any) -> dict[str, Any]:
    """A logger's configuration, checked, with defaults.

    :param given: a mapping, one of OmegaConf, or the path of a YAML file; where it has a section
        ``logger``, that section
    :raises ValueError: an unknown key, a section that is missing, or a value that is not allowed
    :raises TypeError: a value of another type
    :raises OSError: the file cannot be read
    """
    loaded = _from_yaml(Path(given)) if isinstance(given, (str, Path)) else given
    config = _plain("the logger's configuration", loaded)
    if "logger" in config:
        config = _plain("the section 'logger'", config["logger"])
    config = _checked(config, LoggerConfig)
    for name in SECTIONS:
        if config.get(f"{name}_enabled") and name not in config:
            raise ValueError(f"{name}_enabled is true, but the configuration has no section {name!r}")
        config[name] = read_section(name, config.get(name))
    config["gpu_monitoring"] = _gpu_monitoring(config)
    if (count := config.setdefault("num_val_samples_to_print", 0)) < 0:
        raise ValueError(f"num_val_samples_to_print is a whole number from 0 on, not {count}")
    return config


def read_section(name: str, given: Any) -> dict[str, Any]:
    """The configuration of one tracker, checked as far as its keys are known here.

    :raises TypeError: a value of another type
    """
    section = _plain(name, given)
    known = get_type_hints(SECTIONS[name])
    for key in section.keys() & known.keys():
        _check_type(f"{name}.{key}", section[key], known[key])
    return {key: value for key, value in section.items() if value is not None}


def enabled(config: Mapping[str, Any]) -> list[str]:
    """The names of the outputs that are asked for."""
    return [name for name in SECTIONS if config.get(f"{name}_enabled")]


def output_arguments(name: str, section: Mapping[str, Any], folder: Path, inner: str = "") -> dict[str, Any]:
    """What a tracker's section means for our output's constructor.

    :param folder: where trackers keep what is local
    :param inner: in which folder of it this one does
    :raises ValueError: an unknown key
    """
    given = dict(section)
    if name == "tensorboard":
        _check_keys(given, TensorboardConfig, "tensorboard.")
        return {"folder": folder / given.get("log_dir", inner), "params_sep": _SEP}
    if name == "mlflow":  # `mlflow ui`, started where the training was, shows what is there
        return {"folder": Path.cwd(), "params_sep": _SEP, **given}
    if name in ("wandb", "swanlab") and "name" in given:
        given["run_name"] = given.pop("name")
    return {"folder": folder / inner, **given}


def _gpu_monitoring(config: Mapping[str, Any]) -> dict[str, float]:
    known = {name: config.get(f"gpu_{name}", _INTERVAL_S) for name in get_type_hints(GPUMonitoringConfig)}
    given = _checked(
        _plain("gpu_monitoring", config.get("gpu_monitoring")), GPUMonitoringConfig, "gpu_monitoring."
    )
    for name, seconds in (intervals := {**known, **given}).items():
        if not seconds > 0:
            raise ValueError(f"gpu_monitoring.{name} is a number of seconds above 0, not {seconds!r}")
    return intervals


def _plain(name: str, given: Any) -> dict[str, Any]:
    omegaconf = sys.modules.get("omegaconf")  # who has one of its configurations has imported it
    if omegaconf is not None and isinstance(given, omegaconf.DictConfig):
        try:
            given = omegaconf.OmegaConf.to_container(given, resolve=True, throw_on_missing=True)
        except omegaconf.errors.OmegaConfBaseException as error:
            raise ValueError(f"{name}: {' '.join(str(error).split())}") from error
    if given is None:  # in YAML, what has no keys
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} is a mapping, not {given!r}")
    return dict(given)


def _from_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error


def _checked(config: Mapping[str, Any], allowed: type, where: str = "") -> dict[str, Any]:
    """The values that are there; a key without one is as if it were not."""
    _check_keys(config, allowed, where)
    kinds = get_type_hints(allowed)
    given = {key: value for key, value in config.items() if value is not None or kinds[key] not in _WORDS}
    for key, value in given.items():
        if kinds[key] in _WORDS:
            _check_type(f"{where}{key}", value, kinds[key])
    return given


def _check_keys(keys: Iterable[Any], allowed: type, where: str) -> None:
    names = list(get_type_hints(allowed))
    for key in keys:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {where + near[0]!r}? " if near else ""
            told = f"there is no key {f'{where}{key}'!r} in the logger's configuration; {hint}"
            raise ValueError(f"{told}allowed are {', '.join(names)}")


def _check_type(name: str, value: Any, kind: Any) -> None:
    if value is None:
        return
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} is {_WORDS[kind]}, not {value!r}")
