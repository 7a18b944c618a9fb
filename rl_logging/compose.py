"""configure(): the one place where journal, outputs and logger are put together."""

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter

from rl_logging.distributed.ranks import find_reducer, started_by_torchrun
from rl_logging.distributed.reducer import Reducer
from rl_logging.formats import check_names, make_output
from rl_logging.formats import formats as known_formats
from rl_logging.formats.base import Sender
from rl_logging.formats.sb3 import OutputFormat
from rl_logging.journal import FSYNC_EVERY_S
from rl_logging.lifetime import check_delivery, check_resume
from rl_logging.logger import Logger
from rl_logging.run_folders import temporary_folder
from rl_logging.sources import SOURCES, make_sources
from rl_logging.sources.sampled import Source

_log = logging.getLogger("rl_logging")
_DEFAULT_FORMATS = "stdout,log,csv"


def configure(
    folder: str | os.PathLike[str] | None = None,
    format_strings: Iterable[str | KVWriter] | None = None,
    *,
    resume: str = "auto",
    delivery: str = "auto",
    fsync: str | float = FSYNC_EVERY_S,
    linger_s: float = 600.0,
    handle_sigterm: bool = False,
    secret_names: Iterable[str] = (),
    provenance: bool | str = True,
    sources: Iterable[str | Source] = (),
    reducer: Reducer | str | None = "auto",
    **arguments: Mapping[str, Any],
) -> Logger:
    """Make a run folder and a logger that writes into it.

    The run's journal is always written. ::

        logger = configure("runs/ppo_001", ["stdout", "mlflow"], mlflow={"experiment_name": "cartpole"})
        model.set_logger(logger)

    :param folder: the run folder; by default ``$SB3_LOGDIR``, else a new temporary folder
    :param format_strings: the outputs: names, or outputs that are ready; by default
        ``$SB3_LOG_FORMAT``, else ``stdout,log,csv``
    :param resume: what to do in a folder that has a run: continue it (``"auto"``), refuse
        (``"never"``), or refuse any other folder (``"must"``)
    :param delivery: who delivers to the trackers, see :class:`Logger`
    :param fsync: when the journal is forced to the disk: every so many seconds,
        ``"always"`` or ``"never"``
    :param linger_s: how long the courier goes on when this process is gone, in seconds
    :param handle_sigterm: close the logger on SIGTERM, then do what was done before
    :param secret_names: names whose values are hidden, beside ``password``, ``api_key`` and
        their like
    :param provenance: whether to log what produces the run, see :meth:`Logger.log_provenance`;
        ``"code"`` also keeps the files that git tracks. ``$RL_LOGGING_PROVENANCE=0`` is never
    :param sources: what is asked for metrics at each dump: ``"ray_gpu"``, ``"nvml"``,
        ``"system"``, ``"prometheus"``, or callables, see :meth:`Logger.add_source`
    :param reducer: what brings what all ranks recorded to rank 0; ``"auto"`` finds out whether
        ``torch.distributed`` is initialised or Ray Train runs this process; None: there are no
        ranks. Above rank 0 no outputs and sources are made
    :param arguments: for the constructors of outputs and sources given by name, by that name
    :raises RunInUseError: another process writes this run
    :raises FileExistsError: ``resume="never"``, and the folder has a run
    :raises FileNotFoundError: ``resume="must"``, and it has none
    :raises ValueError: an unknown output or source, one given twice, arguments for one not
        given, or a choice that there is not
    :raises MissingBackendError: an output's or a source's package is not installed
    :raises TypeError: an argument that a constructor does not have, no list, or no reducer
    :raises OSError: the folder cannot be written
    """
    if format_strings is None:
        format_strings = os.getenv("SB3_LOG_FORMAT", _DEFAULT_FORMATS).split(",")
    if isinstance(format_strings, str):
        raise TypeError(f"format_strings is a list of outputs: [{format_strings!r}], not {format_strings!r}")
    formats = [format_ for format_ in format_strings if format_ not in ("", "journal")]
    if isinstance(sources, str) or not isinstance(sources, Iterable):
        raise TypeError(f"sources is a list: [{sources!r}], not {sources!r}")
    sources = list(sources)
    _check(formats, sources, arguments)
    asked = make_sources(sources, arguments)
    folder = folder or os.getenv("SB3_LOGDIR")
    check_delivery(delivery, linger_s)
    if provenance not in (True, False, "code"):
        raise ValueError(f"provenance is True, False or 'code', not {provenance!r}")
    ranks = _reducer(reducer)
    if ranks is not None and ranks.rank:
        return Logger(os.fspath(folder) if folder else None, [], reducer=ranks)
    path = Path(folder).absolute() if folder else temporary_folder()  # the program may go elsewhere
    check_resume(resume, path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(f"{str(path)!r} cannot be a run folder: a file has that name") from None
    except OSError as error:
        raise type(error)(
            error.errno, f"the run folder cannot be made: {error.strerror}", str(path)
        ) from None
    with contextlib.ExitStack() as undo:
        logger = Logger(
            str(path),
            [],
            resume=resume,
            delivery=delivery,
            fsync=fsync,
            linger_s=linger_s,
            handle_sigterm=handle_sigterm,
            secret_names=secret_names,
            reducer=ranks,
        )
        undo.callback(logger.close)
        for format_ in formats:
            if isinstance(format_, str):
                format_ = make_output_format(format_, path, **arguments.get(format_, {}))
            logger.output_formats.append(format_)
        for source in asked:
            logger.add_source(source)
        undo.pop_all()
    _announce(logger, folder or path)
    if provenance and os.environ.get("RL_LOGGING_PROVENANCE") != "0":
        logger.log_provenance(code=provenance == "code")
    return logger


def make_output_format(
    _format: str, log_dir: str | os.PathLike[str], log_suffix: str = "", **arguments: Any
) -> OutputFormat:
    """Build one output, as SB3's function of this name does.

    :param _format: the output's name
    :param log_dir: the folder for what it keeps locally; it is made if missing
    :param log_suffix: SB3's; must be empty, since each run has a folder of its own
    :param arguments: for the output's constructor
    """
    if log_suffix:
        raise ValueError(f"log_suffix must be empty, not {log_suffix!r}: give each run its own folder")
    return make_output(_format, Path(log_dir), **arguments)


def _check(formats: list[str | KVWriter], sources: Sequence[Any], arguments: Mapping[str, Any]) -> None:
    names = [format_ for format_ in formats if isinstance(format_, str)]
    if wrong := [name for name in names if name in SOURCES and name not in known_formats()]:
        raise ValueError(f"{wrong[0]!r} is a source, not an output: configure(…, sources=[{wrong[0]!r}])")
    check_names(names)
    for name, given in arguments.items():
        if name not in known_formats() and name not in SOURCES:
            raise TypeError(f"configure() has no argument {name!r}, and no output or source has that name")
        kind, list_ = ("a source", "sources") if name in SOURCES else ("an output", "outputs")
        if name not in names and name not in sources:
            raise ValueError(
                f"{name}={given!r} is for {kind} that is not asked for; add {name!r} to the {list_}"
            )
        if not isinstance(given, Mapping):
            raise TypeError(f"{name}= takes a mapping of constructor arguments, not {given!r}")
    _check_apart(formats, arguments)


def _check_apart(formats: list[str | KVWriter], arguments: Mapping[str, Any]) -> None:
    """Raise for what is no output, and for two that ``exclude`` could not tell apart."""
    taken = set()
    for format_ in formats:
        if isinstance(format_, str):
            name = arguments.get(format_, {}).get("name") or format_
        elif isinstance(format_, Sender):
            name = format_.name
        elif isinstance(format_, KVWriter):
            continue
        else:
            raise TypeError(f"an output is a name or a KVWriter, not {format_!r}")
        if name in taken:
            raise ValueError(f"two outputs have the name {name!r}; give one a name= of its own")
        taken.add(name)


def _reducer(given: Any) -> Reducer | None:
    if given is None or isinstance(given, Reducer):
        return given
    if not isinstance(given, str) or given != "auto":
        raise TypeError(f"reducer is 'auto', None, or a reducer such as TorchReducer(), not {given!r}")
    found = find_reducer()
    if found is None and (process := started_by_torchrun()):
        _log.warning(
            "this process is %s, but torch.distributed is not initialised: it logs for itself. Call "
            "torch.distributed.init_process_group(…) before configure(…), or say reducer=None",
            process,
        )
    return found


def _announce(logger: Logger, folder: str | os.PathLike[str]) -> None:
    outputs = logger.output_formats
    names = [getattr(output, "name", type(output).__name__) for output in outputs]
    if logger.resumed_from is not None:
        logger.log(
            f"Resuming the run in {folder} after step {logger.resumed_from}. "
            "A new run needs another folder; resume='never' makes sure of it."
        )
    if names in ([], ["stdout"]):  # as SB3: only when files were asked for
        return
    places = [
        f"{output.name}: {output.where()}"
        for output in outputs
        if isinstance(output, Sender) and output.remote
    ]
    for line in (f"Logging to {folder}", *places):
        logger.log(line)
