"""What agents did, as people want to see it: samples of it, in every place where a run is looked at."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import Any

from rl_logging.appendfile import AppendFile
from rl_logging.batches import append_lines, check_place, write_rows
from rl_logging.direct import DirectLogger
from rl_logging.media import folder_name
from rl_logging.rich import Table
from rl_logging.samples import (
    COLUMNS,
    MAX_LINES,
    Sample,
    choose_places,
    newest,
    to_rewards,
    to_samples,
    without_secrets,
)
from rl_logging.values import describe, to_text

_CHARACTERS = 1 << 18  # of a table's texts: trackers keep all of a table anew at each step
_ROWS = 1000  # TensorBoard shows no more


class RolloutLogger(DirectLogger):
    """The methods that log samples and batches. What they are given never raises, but a name may."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._sample_tables: dict[str, Table] = {}

    def log_samples(
        self,
        logs: Any,
        rewards: Any = None,
        step: int | None = None,
        *,
        name: str = "val/samples",
        references: Any = None,
        num_samples: int | None = 5,
        choose: str = "mix",
        seed: int = 0,
        max_lines: int | None = MAX_LINES,
        max_tokens: int | None = None,
        show: bool = True,
    ) -> None:
        """Show some conversations or episodes of a batch on the console, and log the same ones.

        They go to every tracker as a table under ``name``, to which each call adds its rows, and
        whole, as lines of JSON, into ``samples/<name>.jsonl`` in the run folder. The table keeps
        the newest: once its texts exceed 262,144 characters, or it has 1,000 rows, it goes on with
        the newer half. ::

            logger.log_samples(
                [[{"role": "user", "content": "2 + 2"}, {"role": "assistant", "content": "4"}]], [1.0], step
            )

        :param logs: conversations: lists of mappings with ``role`` and ``content`` (a text, None, or
            parts), and ``tool_calls``, or a text alone; or episodes: mappings with ``observations``,
            ``actions`` and ``rewards``
        :param rewards: numbers of the shape (batch,); None for the returns of episodes
        :param references: an answer that was wanted, or None, for each
        :param num_samples: how many; None for all, 0 for none
        :param choose: ``"mix"`` of best, worst and middle, ``"best"``, ``"worst"``, ``"first"``, ``"random"``
        :param seed: for ``"random"``: the same one gives the same places in the batch
        :param max_lines: of a longer message, the console leaves out the middle; None for no limit
        :param max_tokens: likewise; a token is a word, a mark, or eight letters of a longer word
        :param show: whether to show them on the console
        """
        if self._is_off():
            return
        try:
            numbers = to_rewards(logs, rewards)
            places = choose_places(numbers, num_samples, choose, seed)
            samples = without_secrets(to_samples(logs, numbers, references, places), self._secrets)
            self._tell_hidden("samples")
            at, name = self._step if step is None else self._valid_step(step), to_text(name)
            file = self._log_chosen(name, samples, at, show) if samples else ""
        except Exception as error:  # the values' own code may raise anything
            self._tell_bad("log_samples", name, error)
            return
        if show and num_samples != 0:
            self._show(samples, numbers, at, max_lines, max_tokens, name, file)

    def log_batch(self, columns: Mapping[str, Any], filename: str | PathLike[str]) -> Path | None:
        """Write a batch into a file of the run folder, one JSON object a row, in place of what was there.

        :param columns: see :func:`rl_logging.batches.write_rows`
        :param filename: from the run folder on, such as ``"rollouts/step_3.jsonl"``
        :return: the file; None where it could not be written, and above rank 0
        :raises ValueError: the file is not in the run folder, or is one of the run's own
        """
        return self._write_lines("log_batch", write_rows, columns, filename)

    def log_lines(self, texts: Iterable[str], filename: str | PathLike[str]) -> Path | None:
        """Append texts to a file of the run folder, a line each; what is no JSON becomes a JSON text.

        :param filename: from the run folder on, such as ``"answers.jsonl"``
        :return: the file; None where it could not be written, and above rank 0
        :raises ValueError: the file is not in the run folder, or is one of the run's own
        """
        return self._write_lines("log_lines", append_lines, texts, filename)

    def _write_lines(
        self, method: str, write: Callable[..., Path], given: Any, filename: str | PathLike[str]
    ) -> Path | None:
        if self._is_off():
            return None
        owners = [folder for output in self.output_formats if (folder := getattr(output, "folder", None))]
        inside = [folder for folder in owners if Path(folder).is_relative_to(self._place())]
        check_place(self._place(), filename, inside)  # a name is the programmer's, who can mend it
        try:
            path = write(self._place(), given, filename, self._secrets.nested)
        except Exception as error:  # columns that do not fit, a full disk, the values' own code
            self._tell_bad(method, filename, error)
            return None
        self._tell_hidden("batches")
        return path

    def _log_chosen(self, name: str, samples: Sequence[Sample], step: int, is_shown: bool) -> str:
        """Log samples, and give the file that has them whole; empty where there is none."""
        with self._turn:  # two threads' rows are apart
            table = self._sample_tables.setdefault(name, Table(COLUMNS))
            for sample in samples:
                table.add(*sample.row(step))
            # The console has the samples themselves; there, a table is but a word.
            self._log_values({name: table}, step, exclude="stdout" if is_shown else None)
            rows = newest(table.rows, _CHARACTERS)
            if len(rows) < len(table.rows) or len(rows) >= _ROWS:
                self._sample_tables[name] = Table(COLUMNS, newest(rows[-_ROWS // 2 :], _CHARACTERS // 2))
            if self._journal is None:
                return ""
            path = self._journal.path.parent / "samples" / f"{folder_name(name)}.jsonl"
            lines = b"".join(sample.line(step) for sample in samples)
            return str(path) if self._append(path, lines) else ""

    def _append(self, path: Path, lines: bytes) -> bool:
        try:
            with closing(AppendFile(path)) as file:
                file.repair()
                file.append(lines)
        except OSError as error:  # a full disk
            self._trouble.tell("samples", f"samples are not written to {path.name}: {describe(error)}")
            return False
        return True

    def _show(
        self,
        samples: Sequence[Sample],
        rewards: Sequence[float],
        step: int,
        max_lines: int | None,
        max_tokens: int | None,
        name: str,
        file: str,
    ) -> None:
        from rl_logging.samples_view import print_samples  # rich takes a while; not all processes show any

        try:
            print_samples(
                samples, rewards, step, max_lines=max_lines, max_tokens=max_tokens, name=name, file=file
            )
        except Exception as error:  # a console may be anything, too
            self._trouble.tell("samples shown", f"log_samples: {name!r} is not shown: {describe(error)}")
