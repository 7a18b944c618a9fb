"""Files among an MLflow run's artifacts: what the store has no other place for.

Each has a path of its own, where it replaces itself when it is sent again::

    images/eval~frame+step+2000+timestamp+1732180000123+image.png
    videos/eval/rollout/step_2000_1732180000123.mp4
    histograms/train/actions/step_2000_1732180000123.json
    tables/eval/results/step_2000_1732180000123.json, and the newest as latest.json
    models/policy/step_2000/policy.zip, and what is known of it as models/policy/step_2000.json

MLflow's page shows the first kind, with the small picture beside it, as its image grid. The
number after a step is the time in milliseconds: a step may repeat. Where a file is lost, a text
in its place says so.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rl_logging.contents import FIGURE, FILE, HISTOGRAM, IMAGE, MODEL, TABLE, TEXT, VIDEO, kind_of_value
from rl_logging.formats.base import Sender, with_digest
from rl_logging.formats.mlflow_draft import PATH_BYTES, Draft, safe_name
from rl_logging.media_files import file_of, histogram_of, table_of
from rl_logging.record import ARTIFACT, METRICS, PROVENANCE, Record
from rl_logging.rich import Media
from rl_logging.values import Value, describe, is_rich, short_text

_FOLDERS = {TEXT: "text", HISTOGRAM: "histograms", TABLE: "tables", VIDEO: "videos"}
_ARTIFACTS = {FILE: "artifacts", MODEL: "models"}
_IMAGE_BYTES = 150  # of one that is a part of a file's name
_SHOWN = ("mean", "std", "min", "max")  # of a histogram, as metrics


class Files(Draft):
    """What some records have for a run's artifacts, sent together.

    :param sender: tells names, and counts what cannot be held
    """

    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self.tables: list[str] = []  # the newest of each table
        self.models: list[tuple[str, Media, str]] = []  # names, and folders
        self.has_images = False
        self._sender = sender

    def put(self, record: Record) -> None:
        """Add what a record has for them."""
        if record.kind == METRICS:
            self._put_values(record)
        elif record.kind == ARTIFACT:
            self._put_artifacts(record)
        elif record.kind == PROVENANCE:
            self._put_provenance(record)

    def put_tag(self, name: str, text: str) -> None:
        """Add a tag that is longer than MLflow holds."""
        self.write(f"tags/{_cut(name, PATH_BYTES)}.txt", text)

    def _put_values(self, record: Record) -> None:
        for key, text in self._sender.texts(record).items():
            self.write(f"{_folder(TEXT, key)}/{_moment(record)}.txt", text)
        for key, value in record.values.items():
            if is_rich(value):
                self._put_rich(key, value, record)

    def _put_artifacts(self, record: Record) -> None:
        for name, media in record.values.items():
            path = self._existing(name, media, record)
            if path is None:
                continue
            kind, place = kind_of_value(media), Path(media.file).parent
            folder = "/".join([_ARTIFACTS[kind], *map(safe_name, place.parts[1:])])
            self.link_all(folder, path)
            about = {"name": name, "step": record.step, "file": path.name, **media.about}
            self.write_json(f"{folder}.json", about)
            if kind == MODEL:
                self.models.append((name, media, folder))

    def _put_provenance(self, record: Record) -> None:
        for name, value in record.values.items():
            if not isinstance(value, Media):
                self.write_json(f"provenance/{safe_name(name)}.json", value)
            elif path := self._existing(name, value, record):
                self.link_all("provenance", path)

    def _existing(self, name: str, media: Media, record: Record) -> Path | None:
        path = _path(media)
        if path is None or not path.exists():
            self._sender.refuse(name, record.step, f"{media.file!r} is not in the run folder any more")
            return None
        return path

    def _put_rich(self, key: str, value: Value, record: Record) -> None:
        kind, name = kind_of_value(value), self._sender.rename(key)
        if kind == "hparam":
            return  # these are parameters
        place = f"{_folder(kind, name)}/{_moment(record)}"
        if kind in (IMAGE, FIGURE):
            place = _image_place(kind, name, record)
        try:
            is_shown = self._show(kind, place, value)
        except (KeyError, TypeError, ValueError) as error:  # the journal's line, or the file, was changed
            self._sender.refuse(key, record.step, describe(error))
            is_shown = False
        if not is_shown:
            at = f": {value.file}" if isinstance(value, Media) and value.file else ""
            self.write(f"{place}.txt", f"{short_text(value)}{at}")

    def _show(self, kind: str, place: str, value: Value) -> bool:
        if kind == HISTOGRAM:
            return self._put_histogram(place, value)
        if kind == TABLE:
            return self._put_table(place, value)
        path = file_of(value)
        if path is None:
            return False
        self.link(place + path.suffix, path)
        if path.suffix == ".png" and kind in (IMAGE, FIGURE):
            self.has_images = True
            self.write_small(f"{place}+compressed.webp", path)
        return True

    def _put_histogram(self, place: str, value: Value) -> bool:
        counted = histogram_of(value)
        if counted is None:
            return False
        parts = {"counts": counted.counts.tolist(), "edges": counted.edges.tolist(), "stats": counted.stats}
        self.write_json(f"{place}.json", parts)
        return True

    def _put_table(self, place: str, media: Media) -> bool:
        columns, rows = table_of(media)
        if not columns:
            return False
        latest = f"{place.rpartition('/')[0]}/latest.json"
        for path in (f"{place}.json", latest):
            self.write_json(path, {"columns": columns, "data": rows})
        self.tables.append(latest)
        return True


def shown_figures(record: Record) -> dict[str, float]:
    """The figures of a record's histograms that are shown as metrics, by their keys."""
    figures = {key: _figures(value) for key, value in record.values.items() if is_rich(value)}
    return {f"{key}/{name}": of[name] for key, of in figures.items() for name in _SHOWN if name in of}


def _figures(value: Value) -> dict[str, float]:
    try:
        counted = histogram_of(value)
    except (KeyError, TypeError, ValueError):  # told when its file is made
        return {}
    return {} if counted is None else counted.stats


def milliseconds(record: Record) -> int:
    """When a record was made, as MLflow counts time."""
    return round(record.time * 1000)


def count_files(client: Any, run_id: str) -> Counter[str]:
    """How much of each kind is among a run's artifacts."""
    counts: Counter[str] = Counter()
    for file in client.list_artifacts(run_id, "images"):
        kind = file.path.rpartition("+")[2].partition(".")[0]
        counts[kind] += kind in (IMAGE, FIGURE)
    for kind, folder in _FOLDERS.items():
        counts[kind] += sum(name.startswith("step_") for name in _names(client, run_id, folder))
    for kind, folder in _ARTIFACTS.items():
        for named in client.list_artifacts(run_id, folder):
            versions = client.list_artifacts(run_id, named.path) if named.is_dir else []
            counts[kind] += sum(file.path.endswith(".json") and not file.is_dir for file in versions)
    return counts


def _names(client: Any, run_id: str, folder: str) -> Iterator[str]:
    for file in client.list_artifacts(run_id, folder):
        if file.is_dir:
            yield from _names(client, run_id, file.path)
        else:
            yield file.path.rpartition("/")[2]


def _path(media: Media) -> Path | None:
    try:
        return media.path
    except ValueError:  # it is none in the run folder: a journal is text that anybody can write
        return None


def _folder(kind: str, name: str) -> str:
    return f"{_FOLDERS.get(kind, kind)}/{_cut(name, PATH_BYTES)}"


def _moment(record: Record) -> str:
    return f"step_{record.step}_{milliseconds(record)}"


def _image_place(kind: str, name: str, record: Record) -> str:
    """As ``log_image`` names its files, but for what makes them differ each time."""
    key = _cut(name, _IMAGE_BYTES).replace("/", "~")
    return f"images/{key}+step+{record.step}+timestamp+{milliseconds(record)}+{kind}"


def _cut(name: str, limit: int) -> str:
    return name if len(name.encode()) <= limit else with_digest(name[: limit // 4], name)
