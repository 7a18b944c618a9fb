"""What is logged at once, beside the values that wait for the next dump."""

import shutil
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from stable_baselines3.common import logger as sb3

from rl_logging import hyperparams
from rl_logging.artifacts import describe_artifact, keep_artifact, new_place
from rl_logging.axes import Axes, flat, items_of
from rl_logging.journaled import JournaledLogger
from rl_logging.media import folder_name
from rl_logging.models import save_model
from rl_logging.record import ARTIFACT, HYPERPARAMETERS, TAGS, Record, now
from rl_logging.rich import BINS, Histogram, Table
from rl_logging.sources.asked import Exclude
from rl_logging.values import Value, describe, to_plain, to_text


class DirectLogger(JournaledLogger):
    """The methods that write a record of their own. None of them raises.

    Where a ``step`` is not given, it is that of the last dump. It may repeat or go back.
    """

    # Values

    def log_metrics(
        self,
        metrics: Mapping[str, Any],
        step: int,
        prefix: str = "",
        step_metric: str | None = None,
        *,
        exclude: Exclude = None,
    ) -> None:
        """Log values, nested ones under names with slashes.

        :param prefix: stands before each name, and a slash between
        :param step_metric: the metric among them, by its name without the prefix, that is to
            be their axis; it gets no prefix
        :param exclude: the outputs that shall not get them: names, or a callable that gives them by key
        """
        if (given := items_of(metrics)) is None:
            wrong = TypeError(f"metrics are a mapping, not {type(metrics).__name__}")
            return self._tell_bad("log_metrics", prefix or "metrics", wrong)
        named = flat(given)
        values = {f"{prefix}/{k}" if prefix and k != step_metric else k: v for k, v in named.items()}
        if step_metric is None:
            return self._log_values(values, step, exclude=exclude)
        axes = Axes()
        axes.define("*", step_metric)
        for axis, at, part in axes.split(values, self._valid_step(step)):
            self._log_values(part, at, axis, exclude)

    def log_text(self, name: str, text: Any, step: int | None = None) -> None:
        """Log a text."""
        self._log_values({name: to_text(text)}, step)

    def log_image(self, name: str, image: Any, step: int | None = None, dataformats: str = "HWC") -> None:
        """Log an image: uint8, or floats from 0 to 1.

        :param image: an array, a tensor, or the path of an image file
        :param dataformats: what its dimensions are: ``HWC``, ``CHW``, ``HW``, ``NCHW`` and so on
        """
        self._log_values({name: _as(sb3.Image, image, dataformats)}, step)

    def log_video(self, name: str, frames: Any, step: int | None = None, fps: float = 30.0) -> None:
        """Log a video.

        :param frames: of the shape (N, T, C, H, W) or (T, C, H, W); uint8, or floats from 0 to 1
        :param fps: frames per second
        """
        self._log_values({name: _as(sb3.Video, frames, fps)}, step)

    def log_figure(self, name: str, figure: Any, step: int | None = None, close: bool = False) -> None:
        """Log a matplotlib figure, as it looks now.

        :param close: whether to close it then
        """
        self._log_values({name: _as(sb3.Figure, figure, close)}, step)

    def log_histogram(self, name: str, values: Any, step: int | None = None, bins: int = BINS) -> None:
        """Log the distribution of values.

        :param values: an array or tensor of any shape, or a :class:`Histogram`
        :param bins: how many bins of equal width
        """
        try:
            whole = values if isinstance(values, Histogram) else Histogram(values, bins)
        except Exception as error:  # the values' own code may raise anything
            return self._tell_bad("log_histogram", name, error)
        self._log_values({name: whole}, step)

    def log_table(self, name: str, table: Any, step: int | None = None) -> None:
        """Log a table; of a :class:`Table` that was logged before, only new rows are written.

        :param table: a :class:`Table`, a DataFrame, columns by name, or a list of mappings
        """
        try:
            whole = Table.of(table)
        except Exception as error:  # as above
            return self._tell_bad("log_table", name, error)
        self._log_values({name: whole}, step)

    def define_metric(self, name_or_pattern: str, step_metric: str) -> None:
        """Draw metrics against another one than the training step, from now on.

        Trackers that know one axis only get the other metric's value, a whole number, as the step.

        :param name_or_pattern: a metric's name, or ``ray/*`` for all that begin so
        :param step_metric: the metric that is to be their axis
        :raises ValueError: a name that is no text, or an empty one
        """
        self._axes.define(name_or_pattern, step_metric)

    # About the run

    def log_hyperparams(self, params: Any) -> None:
        """Log hyperparameters, to every tracker and into ``hyperparams.yaml``; later ones are added.

        :param params: mappings, dataclasses, configurations, of any depth; secrets are left out
        """
        if self._is_off():
            return
        nested = self._secrets.nested(hyperparams.to_nested(params))
        self._tell_hidden("hyperparameters")
        if self.dir:
            try:
                hyperparams.save(Path(self.dir), nested)
            except (OSError, ValueError) as error:  # a full disk; or it was edited, and is no YAML
                self._trouble.tell("hyperparams", f"hyperparams.yaml is not written: {describe(error)}")
        self._hand_over(Record(self._step, now(), nested, kind=HYPERPARAMETERS))

    def log_tags(self, tags: Mapping[str, Any]) -> None:
        """Log tags of the run: texts by name."""
        if (given := items_of(tags)) is None:
            wrong = TypeError(f"tags are a mapping, not {type(tags).__name__}")
            return self._tell_bad("log_tags", "tags", wrong)
        hidden = self._secrets.nested({to_text(name): to_text(value) for name, value in given})
        self._tell_hidden("tags")
        self._hand_over(Record(self._step, now(), hidden, kind=TAGS))

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
        """Keep a file, or a folder with all that is in it, with the run and in every tracker.

        It is copied into the run folder before this returns.

        :param name: by default the file's name without its suffix
        :param type: what it is, such as ``"dataset"``; by default ``"artifact"``. ``"model"``
            also puts it into the trackers' model registries
        :param aliases: names for this version, such as ``"best"``
        :return: the copy; None where it could not be made, and above rank 0
        """
        if self._rank:
            return None
        at = self._step if step is None else self._valid_step(step)
        try:
            name = self._secrets.text(name or Path(path).stem)
            about = self._about(metadata), list(aliases or ())
            kept = keep_artifact(self._place(), path, name, type or "artifact", at, *about)
        except Exception as error:  # no such file, a full disk, a path that is none
            self._tell_bad("log_artifact", name, error)
            return None
        self._hand_over(Record(at, now(), {name: kept}, kind=ARTIFACT))
        return kept.path

    def save_agent(
        self,
        agent: Any,
        name: str = "agent",
        *,
        step: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] | None = None,
    ) -> Path | None:
        """Keep an agent, so that training can go on from it, as an artifact of type ``"agent"``.

        :param agent: an SB3 algorithm, a torch module, or any object that can be pickled; the
            metadata's ``load_by`` says how it is read back
        :param aliases: names for this version, such as ``"best"``
        :return: the file; None where it could not be written, and above rank 0
        """
        return self._save(agent, name, "agent", step, metadata, aliases or ())

    def save_policy(
        self,
        policy: Any,
        name: str = "policy",
        *,
        step: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] | None = None,
    ) -> Path | None:
        """Keep a policy, also in the model registries of the trackers that have one.

        :param policy: an SB3 policy or algorithm, a torch module, or any object that can be pickled
        :param aliases: names for this version, such as ``"best"``
        :return: the file; None where it could not be written, and above rank 0
        """
        return self._save(policy, name, "model", step, metadata, aliases or ())

    def _save(
        self,
        model: Any,
        name: str,
        type_: str,
        step: int | None,
        metadata: Mapping[str, Any] | None,
        aliases: Sequence[str],
    ) -> Path | None:
        if self._rank:
            return None
        at = self._step if step is None else self._valid_step(step)
        place = None
        try:
            folder = self._place()
            place = new_place(folder, name, at)
            path, load_by = save_model(model, place, folder_name(name))
            about = {"class": type(model).__name__, "load_by": load_by, **self._about(metadata)}
            kept = describe_artifact(folder, path, name, type_, about, list(aliases))
        except Exception as error:  # what cannot be pickled, a full disk, the model's own code
            self._tell_bad("save_policy" if type_ == "model" else "save_agent", name, error)
            if place is not None:
                shutil.rmtree(place, ignore_errors=True)
            return None
        self._hand_over(Record(at, now(), {name: kept}, kind=ARTIFACT))
        return path

    def _about(self, metadata: Mapping[str, Any] | None) -> dict[str, Value]:
        about: dict[str, Value] = self._secrets.nested(to_plain(dict(metadata or {})))
        self._tell_hidden("metadata")
        return about


def _as(kind: type, value: Any, *arguments: Any) -> Any:
    return value if issubclass(type(value), kind) else kind(value, *arguments)
