"""Reading a SwanLab run back: its log, by SwanLab's own reader, and its configuration."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rl_logging.contents import HYPERPARAMETER, TAG, leaves
from rl_logging.formats.base import History
from rl_logging.formats.swanlab_values import TAGS, is_ours, kind_in, merged


def entries(folder: Path) -> Iterator[Any]:
    """What is in the log of a session; of one that a kill has torn, what is whole."""
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record as Entry
    from swanlab.sdk.internal.core_python.store import DataStoreReader

    for log in folder.glob("run-*.swanlab"):
        reader = DataStoreReader()
        reader.open(str(log))
        yield from (Entry.FromString(body) for body in reader)
        reader.close()


def points(folders: Iterable[Path]) -> History:
    """The numbers in the sessions of a run: the first of each step."""
    found: dict[str, dict[int, float]] = {}
    for entry in (entry for folder in folders for entry in entries(folder)):
        if entry.WhichOneof("record_type") == "scalar":
            scalar = entry.scalar
            found.setdefault(scalar.key, {}).setdefault(scalar.step, scalar.value.number)
    return {key: list(values.items()) for key, values in found.items()}


def contents(folders: Iterable[Path]) -> dict[str, int]:
    """How much of each kind but numbers stands in the sessions of a run."""
    folders = list(folders)
    log = (entry.media for folder in folders for entry in entries(folder) if entry.HasField("media"))
    shown = {(media.key, media.step) for media in log}
    config = configuration(folders)
    found = Counter(kind_in(key) for key, _ in shown)
    found[TAG] = len(config.get(TAGS, {}))
    found[HYPERPARAMETER] = len(set(leaves({k: v for k, v in config.items() if not is_ours(k)})))
    return {kind: count for kind, count in found.items() if kind and count}


def configuration(folders: Iterable[Path]) -> dict[str, Any]:
    """What the sessions of a run have in their configuration, nested."""
    import yaml

    found: dict[str, Any] = {}
    for path in (folder / "files" / "config.yaml" for folder in folders):
        if path.is_file():
            told = yaml.safe_load(path.read_text("utf-8")) or {}
            found = merged(found, {name: about["value"] for name, about in told.items()})
    return found
