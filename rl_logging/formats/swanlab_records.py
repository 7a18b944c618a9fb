"""How records are written into a SwanLab run, whoever opened it.

SwanLab has neither artifacts nor a registry of models. A file is copied into the run's
own folder, where SwanLab keeps files, and a text says what it is.
"""

import glob
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rl_logging.contents import count, kind_of_value
from rl_logging.formats import swanlab_values as values
from rl_logging.formats.tracker import Tracker, message_line
from rl_logging.media_files import file_of
from rl_logging.record import HYPERPARAMETERS, METRICS, Record
from rl_logging.rich import Media
from rl_logging.values import Value, is_number, is_rich, short_text, to_float

_KEY_LENGTH = 512 - len("_-12345678" + values.LONGEST_END)  # SwanLab's limit, less what a key may get
_LARGEST_STEP = 1 << 48


class SwanLabRecords(Tracker):
    """Write records to a SwanLab run. It cannot hold a second value of a name at a step: the first stays."""

    limit = "SwanLab holds one value of a key at a step, and steps from 0 to 2**48"

    def __init__(self, *, folder: str | Path | None = None, name: str | None = None) -> None:
        super().__init__(folder=folder, name=name)
        self._last_steps: dict[str, int] = {}
        self._numbered = 0  # texts that stand at no training step
        self._originals = 0  # changed keys whose originals are told
        self._handed = False  # whether anything was handed over

    def emit(self, record: Record) -> None:
        run, names = self.run, []
        row: dict[str, Any] = {}
        numbers = self.taken(record)
        for key, value in record.values.items():
            if _is_hparam(value):
                self._take_hparam(value)
                continue
            name = self._name(key, value)
            if name is None or (is_number(value) and name not in numbers):
                continue
            if self._last_steps.get(name) == record.step or not 0 <= record.step <= _LARGEST_STEP:
                self.refuse(key, record.step, self.limit)
                continue
            names.append(name)
            row.update({name: numbers[name]} if is_number(value) else self._shown(name, value))
        self._tell_originals()
        if row:
            run.log(row, step=record.step)
            self._last_steps.update(dict.fromkeys(names, record.step))
            self._handed = True

    def _name(self, key: str, value: Value) -> str | None:
        """The name of a value here; None for what is no value of a step."""
        if value is None or _is_hparam(value):
            return None
        name = self.rename(key)
        return name if is_number(value) else values.title(name, kind_of_value(value))

    def _shown(self, name: str, value: Value) -> dict[str, Any]:
        if not is_rich(value):
            return {name: values.to_shown_text(value if isinstance(value, str) else short_text(value))}
        try:
            return {name: values.to_shown(value)}
        except ValueError as error:
            self.trouble.tell(f"shown {name}", f"{self.name}: {name} is there as a file, if at all: {error}")
            return {f"{name[:-1]} {values.NOTE})": values.to_shown_text(self._filed(value))}

    def _filed(self, value: Value) -> str:
        """Keep the file of what cannot be shown; a word for it, and where the file is."""
        try:
            path = file_of(value) if isinstance(value, Media) else None
        except ValueError:  # it is not in the run folder
            path = None
        file = "" if path is None else self._save(path, value)
        return f"{short_text(value)}: {file}" if file else short_text(value)

    def _save(self, path: Path, media: Media) -> str:
        """Copy a file or folder of the run folder into the run; its name in there."""
        file = path.relative_to(Path(media.folder or "").resolve()).as_posix()
        if self.run.mode == "disabled":
            return file
        # SwanLab itself would only link to it.
        files = Path(self.run.dir) / "files"
        kept = files / file
        kept.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, kept, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, kept)
        # It takes patterns only, of which the folder that names are counted from can hold nothing.
        base = next(place for place in (files, *files.parents) if not glob.has_magic(str(place)))
        for each in sorted(kept.rglob("*")) if kept.is_dir() else [kept]:
            if each.is_file():
                self.run.save(glob.escape(str(each)), base_path=base, policy="now")
        self._handed = True
        return file

    def emit_text(self, record: Record) -> None:
        self._log_text(values.MESSAGES, message_line(record), record)

    def _log_text(self, name: str, text: str, record: Record) -> None:
        """Log a text that stands at no training step."""
        run = self.run
        self._numbered += 1
        # A step holds one text. The record's own number is the same in a repeated delivery.
        run.log({name: values.to_shown_text(text)}, step=record.seq or self._numbered)
        self._handed = True

    # About the run

    def emit_hyperparameters(self, record: Record) -> None:
        self._configure(values.hyperparameters(record.values))

    def _take_hparam(self, media: Media) -> None:
        self._configure(values.hyperparameters(media.about.get("hparams", {})))
        self._configure({values.METRICS: media.about.get("metrics", {})})

    def emit_tags(self, record: Record) -> None:
        self._configure({values.TAGS: record.values})

    def emit_artifact(self, record: Record) -> None:
        for name, media in record.values.items():
            if self._keep(name, media, record.step):
                named = values.title(self.rename(name), kind_of_value(media))
                self._log_text(named, values.to_card(name, media), record)
        self._tell_originals()

    def _keep(self, name: str, media: Media, step: int) -> bool:
        """Keep a file or folder with the run, if it is still there."""
        path = media.path
        if path is None or not path.exists():
            self.refuse(name, step, "its file is gone")
            return False
        self._save(path, media)
        return True

    def emit_provenance(self, record: Record) -> None:
        told = {name: value for name, value in record.values.items() if not isinstance(value, Media)}
        files = {name: value for name, value in record.values.items() if isinstance(value, Media)}
        kept = [media.file for name, media in files.items() if self._keep(name, media, record.step)]
        for name, value in told.items():
            self.run.config[name] = values.to_config(value)  # not merged: it is of this process
        self._log_text(values.PROVENANCE, values.to_listing({**told, "files": kept}), record)

    def _configure(self, new: Mapping[str, Value]) -> None:
        config = self.run.config
        plain = values.to_config(new)
        config.update({name: values.merged(config.get(name), value) for name, value in plain.items()})
        self._handed = True

    def _tell_originals(self) -> None:
        if len(self.renamed()) > self._originals:
            self._configure({values.ORIGINALS: self.renamed()})
            self._originals = len(self.renamed())

    # What it can hold

    def held(self, value: float, step: int) -> float | None:
        return to_float(value) if 0 <= step <= _LARGEST_STEP else None

    def clean(self, key: str) -> str:
        # SwanLab strips these itself, so that two keys would meet, and hides its own prefix.
        key = "".join(c if c.isprintable() else "_" for c in key).strip("/. ")
        key = key.removeprefix("__swanlab__")[:_KEY_LENGTH] or "key"
        is_taken = key in (values.MESSAGES, values.PROVENANCE) or values.kind_in(key)
        return f"{key}_" if is_taken else key

    def expected_contents(self, records: Iterable[Record]) -> dict[str, int]:
        seen: set[tuple[str, int]] = set()
        config: Value = {}
        others = []
        for record in (record.without(self.name) for record in records):
            if record.kind == METRICS:
                for media in filter(_is_hparam, record.values.values()):
                    config = values.merged(config, media.about.get("hparams", {}))
                others.append(replace(record, values=self._first(record, seen)))
            elif record.kind == HYPERPARAMETERS:
                config = values.merged(config, record.values)
            else:
                others.append(record)
        return count([*others, Record(0, 0.0, config, kind=HYPERPARAMETERS)])

    def _first(self, record: Record, seen: set[tuple[str, int]]) -> dict[str, Value]:
        """What of a record has a name and step that are not taken; they are, then."""
        first = {}
        for key, value in record.values.items():
            place = (self._name(key, value) or "", record.step)
            if place[0] and place not in seen and 0 <= record.step <= _LARGEST_STEP:
                seen.add(place)
                first[key] = value
        return first


def _is_hparam(value: Value) -> bool:
    return isinstance(value, Media) and value.kind == "hparam"
