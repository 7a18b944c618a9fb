"""The sources of a logger, asked at each dump, each on its own."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rl_logging.errors import Trouble
from rl_logging.sources.sampled import Sampled, Source, source_name
from rl_logging.values import describe

Exclude = str | tuple[str, ...] | Callable[[str], Any] | None
_SLOW_S = 0.05  # of a dump that is to cost microseconds


class AskedSources:
    """Asks sources. None of them can raise into a dump."""

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self._sources: list[tuple[Source, Exclude]] = []

    def add(self, source: Source, exclude: Exclude = None) -> None:
        """Ask one more; a source with an ``every_s`` is asked on a thread of its own.

        :raises TypeError: it cannot be called
        """
        if not callable(source):
            raise TypeError(f"a source is a callable that gives metrics by name, not {source!r}")
        if hasattr(source, "every_s") and not isinstance(source, Sampled):
            source = Sampled(source)
        if isinstance(source, Sampled):
            source.start()
        own = getattr(source, "exclude", None)
        self._sources.append((source, own if exclude is None else exclude))

    def ask(self, values: dict[Any, Any], excluded: dict[Any, Any]) -> None:
        """Add what the sources give; what was recorded under the same key stays."""
        for source, exclude in self._sources:
            for key, value in self._answer(source).items():
                if key not in values:
                    values[key] = value
                    excluded[key] = exclude(key) if callable(exclude) else exclude

    def _answer(self, source: Source) -> Mapping[str, Any]:
        began = time.monotonic()
        try:
            answer = source()
            if not isinstance(answer, Mapping):
                raise TypeError(f"it gave {type(answer).__name__}, not metrics by name")
        except Exception as error:  # the user's code must not stop training
            told = f"source {source_name(source)!r} failed: {describe(error)}. Training goes on without it."
            self._trouble.tell(f"source {source_name(source)}", told, error)
            return {}
        if (took_s := time.monotonic() - began) > _SLOW_S:
            told = f"source {source_name(source)!r} held dump up for {took_s * 1000:.0f} ms"
            self._trouble.tell(f"slow {source_name(source)}", f"{told}: rl_logging.Sampled(…) asks it aside")
        return answer

    def stop(self) -> None:
        """Ask no more; nothing is waited for."""
        for source, _ in self._sources:
            if isinstance(source, Sampled):
                source.stop()
