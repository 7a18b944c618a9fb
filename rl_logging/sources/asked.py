"""The sources of a logger, asked at each dump, each on its own."""

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from rl_logging.errors import Trouble
from rl_logging.sources.sampled import Sampled, Source, check_callable, close, source_name
from rl_logging.values import describe

Exclude = str | tuple[str, ...] | Callable[[str], Any] | None
_PATIENCE_S = 0.05  # for a source that has always answered at once


class AskedSources:
    """Asks sources. None of them can raise into a dump, nor hold it up."""

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self._sources: list[tuple[Sampled | _Asker, Exclude]] = []

    def add(self, source: Source, exclude: Exclude = None) -> None:
        """Ask one more; a source with an ``every_s`` is asked on a clock of its own.

        :raises TypeError: it cannot be called
        """
        check_callable(source)
        own = getattr(source, "exclude", None)
        if isinstance(source, Sampled):
            asked: Sampled | _Asker = source
        else:
            asked = Sampled(source) if hasattr(source, "every_s") else _Asker(source)
        asked.start()
        self._sources.append((asked, own if exclude is None else exclude))

    def ask(self, values: dict[Any, Any], excluded: dict[Any, Any]) -> None:
        """Add what the sources give; what was recorded under the same key stays."""
        sourced: set[Any] = set()
        for source, exclude in self._sources:
            try:
                for key, value in _answer(source).items():
                    if key in sourced:
                        told = (
                            f"source {source.name!r}: another source gives {key!r}, too, and its value stays"
                        )
                        self._trouble.tell(f"twice {source.name}", told)
                    if key not in values:
                        excluded[key] = exclude(key) if callable(exclude) else exclude
                        values[key] = value
                        sourced.add(key)
            except TimeoutError as error:
                self._trouble.tell(f"slow {source.name}", f"source {source.name!r}: {error}")
            except Exception as error:  # the user's code must not stop training
                told = (
                    f"source {source.name!r} failed: {describe(error)}. Training goes on; it is asked again."
                )
                self._trouble.tell(f"source {source.name}", told, error)

    def stop(self) -> None:
        """Ask no more; nothing is waited for."""
        for source, _ in self._sources:
            source.stop()


def _answer(source: "Sampled | _Asker") -> Mapping[str, Any]:
    answer = source()
    if not isinstance(answer, Mapping):
        raise TypeError(f"it gave {type(answer).__name__}, not metrics by name")
    return answer


class _Asker:
    """Asks a source at each dump, on a thread of its own.

    Who does not answer at once is not waited for again: the answer counts at the next dump.
    """

    def __init__(self, source: Source) -> None:
        self.name = source_name(source)
        self._source = source
        self._questions: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._is_open = False  # a question
        self._is_slow = False

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"source {self.name}", daemon=True).start()

    def stop(self) -> None:
        self._questions.put(False)

    def __call__(self) -> Any:
        """What the source gives.

        :raises TimeoutError: there is no answer yet
        :raises RuntimeError: it failed
        """
        self._ask()
        try:
            answer = self._answers.get(timeout=0 if self._is_slow else _PATIENCE_S)
        except queue.Empty:
            self._is_slow = True
            raise TimeoutError(
                f"no answer within {_PATIENCE_S * 1000:g} ms. No dump waits for it again: its values come "
                "one dump late, if they come. rl_logging.Sampled(…) asks it on a clock of its own"
            ) from None
        self._is_open = False
        if self._is_slow:
            self._ask()
        if isinstance(answer, BaseException):
            raise RuntimeError(describe(answer)) from answer
        return answer

    def _ask(self) -> None:
        if not self._is_open:
            self._is_open = True
            self._questions.put(True)

    def _run(self) -> None:
        while self._questions.get():
            try:
                answer: Any = self._source()
            except (Exception, SystemExit) as error:  # it is told in the dump
                answer = error
            self._answers.put(answer)
        close(self._source, Trouble())
