"""What a W&B run has beside its rows: config, tags, artifacts and files.

W&B's own tool removes an artifact's files once it has sent them, also where it was told
that they are another's. So it gets copies, beside its log.
"""

import contextlib
import functools
import glob
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rl_logging.formats.base import with_digest
from rl_logging.formats.bounds import environment
from rl_logging.formats.wandb_config import (
    ORIGINAL_KEYS,
    PROVENANCE,
    STAND_IN,
    TAGS,
    artifact_aliases,
    artifact_metadata,
    artifact_name,
    artifact_type,
    fitted,
    is_cut,
    is_long_tag,
    merged,
    tag_of,
    to_config,
)
from rl_logging.formats.wandb_contents import config, tags
from rl_logging.formats.wandb_log import STEP
from rl_logging.record import Record
from rl_logging.rich import Media
from rl_logging.values import Value, to_utf8

_TABLE_ENTRY = "media/tables/table"  # W&B names it by its content, and leaves no folder behind


class WandBAbout:
    """Writes into an open run what is no row.

    :param run: W&B's run
    :param earlier: what another process said of the run, if it is continued
    :param is_ours: whether the run is ours, not the user's
    :param refuse: is told the name, the step and the reason of a file that is gone
    """

    def __init__(
        self, run: Any, earlier: Mapping[str, Any], is_ours: bool, refuse: Callable[[str, int, str], None]
    ) -> None:
        self.handed = Counter({"run": 1})  # entries that the log must have; W&B begins it with one
        self._run = run
        self._earlier = earlier if is_ours else {}
        self._config: dict[str, Value] | None = None
        self._tags: dict[str, str] = {}  # as W&B has them, by name
        self._types: dict[str, str] = {}  # of each artifact, by its name
        self._axes: dict[str, str] = {}  # of the keys that W&B knows
        self._is_ours, self._refuse = is_ours, refuse

    @functools.cached_property
    def _before(self) -> tuple[dict[str, Any], list[str]]:
        """The config and tags of sessions that were sent, which W&B would replace with the new ones."""
        return (config(self._earlier), tags(self._earlier)) if self._earlier else ({}, [])

    def keys(self, keys: Collection[str], axis: str, originals: Mapping[str, str]) -> None:
        """Tell W&B of keys that stand for the first time, or against another axis than before.

        :param axis: the key that is their axis; empty for the training step
        :param originals: what the keys were that had to be changed
        """
        usual = "" if self._is_ours else None  # the user's other metrics keep the axis that they have
        for key in keys:
            if self._axes.get(key, usual) != axis and key != axis and "*" not in key:
                self._run.define_metric(key, step_metric=axis or STEP)
        if any(key in originals and key not in self._axes for key in keys):
            self._update({ORIGINAL_KEYS: dict(originals)})
        self._axes.update(dict.fromkeys(keys, axis))

    def hyperparameters(self, nested: Mapping[str, Value]) -> None:
        """Add hyperparameters to the config; where it cannot hold one, a file has all."""
        if is_cut(dict(nested)):
            text = json.dumps(nested, indent=1, ensure_ascii=False)
            self._put(f"{with_digest('hyperparams', text)}.json", to_utf8(text).encode())
        self._update(to_config(nested))

    def tags(self, texts: Mapping[str, str]) -> None:
        """Add tags; one of the same name is replaced."""
        if long := {name: text for name, text in texts.items() if is_long_tag(name, text)}:
            self._update({TAGS: fitted(long)})
        before, old = self._before[1], set(self._tags.values())
        self._tags.update((name, tag_of(name, text)) for name, text in texts.items())
        replaced = {tag for tag in before if _is_of(tag, self._tags)} | old
        kept = [tag for tag in (*(self._run.tags or ()), *before) if tag not in replaced]
        self._run.tags = tuple(dict.fromkeys([*kept, *self._tags.values()]))
        self.handed["run"] += 1

    def artifacts(self, record: Record) -> None:
        """Log files and folders with what is known of them."""
        for name, path in self._existing(record).items():
            about = record.values[name].about
            ours = {"step": record.step, "original_name": name, "sha256": about["sha256"]}
            metadata = artifact_metadata(about["metadata"], **ours)
            self._log(name, about["type"], _files(path), metadata, artifact_aliases(about["aliases"]))

    def stand_in(self, key: str, kind: str, path: Path, step: int) -> None:
        """Log the file of a value that W&B cannot show."""
        self._log(f"{kind}-{key}", STAND_IN, _files(path), {"kind": kind, "key": key, "step": step})

    def provenance(self, record: Record) -> None:
        """Keep what produced the run: facts in the config, files as code, and diffs to be read there."""
        nested = {name: value for name, value in record.values.items() if not isinstance(value, Media)}
        facts = nested.get(PROVENANCE, nested)
        files = {path.name: path for path in self._existing(record).values()}
        for name, path in files.items():
            if path.suffix == ".diff":
                self._put(f"provenance/{name}", path.read_bytes())
        if files:
            script = Path(str(facts.get("script", ""))).name or self._run.id
            self._log(f"code-{script}", "code", files, {})
        self._update({PROVENANCE: fitted(facts)}, instead=True)

    def table(self, key: str, table: Any) -> None:
        """Log what W&B's page shows of a table: an artifact of its own."""
        with self._new(f"table-{self._run.id}-{key}", "run_table", {}) as artifact:
            artifact.add(table, _TABLE_ENTRY)

    def _log(
        self,
        name: str,
        type_: str,
        files: Mapping[str, Path],
        metadata: dict[str, Value],
        aliases: Iterable[str] = (),
    ) -> None:
        with self._new(name, type_, metadata, aliases) as artifact:
            for entry, path in files.items():
                artifact.add_file(str(path), name=to_utf8(entry))

    @contextlib.contextmanager
    def _new(
        self, name: str, type_: str, metadata: dict[str, Value], aliases: Iterable[str] = ()
    ) -> Iterator[Any]:
        """An artifact that is logged once it is filled."""
        import wandb

        kind = artifact_type(type_)
        known = artifact_name(name, kind)
        if self._types.setdefault(known, kind) != kind:  # W&B has one type for each name
            known = artifact_name(f"{known[:90]}-{kind[:20]}", kind)
        place = Path(self._run.settings.sync_file).parents[1]
        with environment(**({"WANDB_DATA_DIR": str(place)} if self._is_ours else {})):
            artifact = wandb.Artifact(known, kind, metadata=metadata)
            yield artifact
            self._run.log_artifact(artifact, aliases=list(aliases))
        self.handed["artifact"] += self._run.offline  # else it is sent at once, and not in the log

    def _existing(self, record: Record) -> dict[str, Path]:
        """Where a record's files are; one that is no longer there is counted and said."""
        found = {}
        for name, media in record.values.items():
            try:
                path = media.path if isinstance(media, Media) else None
                if path is not None and path.exists():
                    found[name] = path
                elif isinstance(media, Media):
                    self._refuse(name, record.step, "it is no longer in the run folder")
            except ValueError as error:  # it never was
                self._refuse(name, record.step, str(error))
        return found

    def _update(self, values: dict[str, Value], instead: bool = False) -> None:
        if self._config is None:
            self._config = self._before[0]
        for name, value in values.items():
            self._config[name] = value if instead else merged(self._config.get(name), value)
        self._run.config.update({name: self._config[name] for name in values}, allow_val_change=True)
        self.handed["config"] += 1

    def _put(self, name: str, content: bytes) -> None:
        """Put a file into the run's Files."""
        folder = Path(self._run.dir)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self._run.save(glob.escape(str(path)), base_path=glob.escape(str(folder)), policy="now")


def _files(path: Path) -> dict[str, Path]:
    """The files of an artifact, by their names in it."""
    if not path.is_dir():
        return {path.name: path}
    return {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}


def _is_of(tag: str, names: Iterable[str]) -> bool:
    return any(tag == name or tag.startswith(f"{name}:") for name in names)
