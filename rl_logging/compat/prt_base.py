"""The part that prt_rl's loggers share: iterations that count themselves, and calls of the core."""

import numbers
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

from rl_logging.axes import items_of
from rl_logging.errors import Trouble, caller
from rl_logging.logger import Logger as CoreLogger
from rl_logging.record import key_name, to_step
from rl_logging.values import describe, to_text


class Logger:
    """What the others share, and the base for a logger of your own, which writes ``log_scalar``.

    Used alone it keeps nothing: each method says so once.

    :param logging_freq: how many iterations :meth:`should_log` takes together
    :raises ValueError: ``logging_freq`` is no whole number above 0
    """

    core: CoreLogger | None = None
    """The logger of this package that does the work."""

    def __init__(self, logging_freq: int = 1) -> None:
        is_whole = isinstance(logging_freq, numbers.Integral) and not isinstance(logging_freq, bool)
        if not is_whole or logging_freq < 1:
            raise ValueError(f"logging_freq is a whole number above 0, not {logging_freq!r}")
        self.logging_freq = int(logging_freq)
        self._logged = 0  # iterations, when should_log said yes last
        self._trouble = Trouble()
        self._told: set[str] = set()
        self.iteration = 0

    @property
    def iteration(self) -> int:
        """What a value gets next whose name was logged before; it never falls by itself."""
        return self._current + self._is_counted

    @iteration.setter
    def iteration(self, iteration: int) -> None:
        self._current, self._is_counted = to_step(iteration), False
        self._names: set[str] = set()  # that were logged at the current one

    def should_log(self, iteration: int) -> bool:
        """Whether ``logging_freq`` iterations are over since the last yes.

        :param iteration: from 0 on
        """
        done = iteration + 1
        if done // self.logging_freq <= self._logged // self.logging_freq:
            return False
        self._logged = done
        return True

    def log_parameters(self, params: Mapping[str, Any]) -> None:
        """Log what the run was made with; later ones are added."""
        if core := self._core_for("log_parameters"):
            core.log_hyperparams(params)

    def log_scalar(self, name: str, value: float, iteration: int | None = None) -> None:
        """Log a number that changes.

        :param iteration: by default they are counted
        """
        if core := self._core_for("log_scalar"):
            key = name if type(name) is str else key_name(name)  # which may be unhashable
            core.log_metrics({key: value}, self._count([key], iteration))

    def log_metrics(self, metrics: Mapping[str, float], iteration: int | None = None) -> None:
        """Log several numbers at one iteration, each by :meth:`log_scalar`."""
        if (given := items_of(metrics)) is None:
            self._tell("log_metrics", f"metrics are a mapping, not {type(metrics).__name__}")
            return
        at = self._count([name for name, _ in given], iteration)
        for name, value in given:
            self.log_scalar(name, value, at)

    def log_artifact(
        self,
        path: str | PathLike[str],
        *,
        name: str | None = None,
        type: str | None = None,
        step: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] | None = None,
    ) -> Path | None:
        """Keep a file, or a folder, with the run; see :meth:`rl_logging.Logger.log_artifact`.

        :param step: by default the current iteration
        :return: the copy in the run folder; None where there is none
        """
        core = self._core_for("log_artifact")
        at = self._current if step is None else step
        if core is None:
            return None
        return core.log_artifact(path, name=name, type=type, step=at, metadata=metadata, aliases=aliases)

    def log_file(self, path: str | PathLike[str], name: str, move: bool = False) -> None:
        """Keep a file as an artifact.

        :param move: whether to remove it where it was, once there is a copy
        """
        if self.log_artifact(path, name=name) and move:
            try:
                Path(path).unlink()
            except OSError as error:
                self._tell("log_file", f"{to_text(path)!r} stays where it is: {describe(error)}")

    def log_directory(self, dir: str | PathLike[str], path: str | None = None) -> None:
        """Keep a folder, with all that is in it, as an artifact.

        :param path: its name; by default the folder's own
        """
        self.log_artifact(dir, name=path)

    def log_figure(self, fig: Any, name: str, iteration: int | None = None) -> None:
        """Log a matplotlib figure, and close it.

        :param iteration: by default the current one, which does not move on
        """
        if core := self._core_for("log_figure"):
            core.log_figure(name, fig, self._current if iteration is None else iteration, close=True)

    def log_tags(self, tags: Mapping[str, Any]) -> None:
        """Log tags of the run: texts by name."""
        if core := self._core_for("log_tags"):
            core.log_tags(tags)

    def save_agent(self, agent: Any, name: str = "agent", **about: Any) -> Path | None:
        """Keep an agent as an artifact; see :meth:`rl_logging.Logger.save_agent`.

        :param about: ``step``, by default the current iteration, ``metadata``, ``aliases``
        :return: the file; None where it could not be written
        """
        core = self._core_for("save_agent")
        return core.save_agent(agent, name, **{"step": self._current, **about}) if core else None

    def save_policy(self, policy: Any, name: str = "policy", **about: Any) -> Path | None:
        """Keep a policy, also in the tracker's model registry; see :meth:`save_agent`."""
        core = self._core_for("save_policy")
        return core.save_policy(policy, name, **{"step": self._current, **about}) if core else None

    def close(self) -> None:
        """Finish the run; a second call does nothing."""
        if self.core is not None:
            self.core.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.core is not None and error is not None:
            self.core.__exit__(kind, error, trace)  # which tells the tracker how it went
        self.close()

    def _count(self, names: Iterable[Any], given: Any) -> int:
        """The iteration of what is logged under some names."""
        names = set(map(key_name, names))
        try:
            at = None if given is None else to_step(given)
        except ValueError as error:
            self._tell("iteration", f"{describe(error)}; it is counted instead")
            at = None
        if at is None:
            if not names.isdisjoint(self._names):
                self.iteration = self._current + 1
            at, self._is_counted = self._current, True
        elif at > self._current:
            self.iteration = at
        if at == self._current:
            self._names |= names
        return at

    def _core_for(self, method: str) -> CoreLogger | None:
        if self.core is None and method not in self._told:
            self._told.add(method)
            here = type(self).__name__
            self._tell(method, f"{here} keeps nothing of this; FileLogger, MLFlowLogger and ClearMLLogger do")
        return self.core

    def _tell(self, method: str, told: str) -> None:
        self._trouble.tell(f"{method} {told[:100]}", f"{method}: {told}{caller()}. Training goes on.")
