"""What stands in a W&B run, read from the logs of all its sessions."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rl_logging.contents import (
    FIGURE,
    FILE,
    HISTOGRAM,
    HYPERPARAMETER,
    IMAGE,
    MODEL,
    TABLE,
    TAG,
    TEXT,
    VIDEO,
    leaves,
)
from rl_logging.formats.base import History
from rl_logging.formats.wandb_config import FIGURES, RESERVED, STAND_IN
from rl_logging.formats.wandb_log import AXIS_STEP, STEP, WandBLog, all_logs

_KINDS = {
    "image-file": IMAGE,
    "images/separated": IMAGE,
    "video-file": VIDEO,
    "histogram": HISTOGRAM,
    "table-file": TABLE,
}
_NOT_LOGGED = ("run_table", "code")  # types of artifacts that belong to a table, or to provenance

Rows = Iterable[dict[str, Any]]


def all_rows(reference: Mapping[str, Any], by_log: bool) -> Rows:
    """The rows of all sessions; one that was delivered again is there once.

    :param by_log: whether each session numbers its rows anew
    """
    rows: dict[Any, dict[str, Any]] = {}
    for log in all_logs(reference):
        for number, row in WandBLog(log).rows():
            rows[(log, number) if by_log else number] = row
    return rows.values()


def points(rows: Rows) -> History:
    """The numbers in the rows, each at the step of its record."""
    found: History = {}
    for row in rows:
        step = row[AXIS_STEP] if AXIS_STEP in row else row.get(STEP, 0)
        for key, value in row.items():
            if key != STEP and not key.startswith("_") and isinstance(value, (int, float)):
                found.setdefault(key, []).append((step, float(value)))
    return found


def contents(reference: Mapping[str, Any], rows: Rows, given_tags: Iterable[str]) -> dict[str, int]:
    """How much of each kind but numbers there is.

    :param given_tags: the tags that the run had from its beginning
    """
    found = Counter(kind for row in rows for kind in _kinds(row))
    found.update(_artifacts(reference))
    ours = {name: value for name, value in config(reference).items() if name not in RESERVED}
    found[HYPERPARAMETER] = len(set(leaves(ours))) if ours else 0
    found[TAG] = len(set(tags(reference)) - set(given_tags))
    return {kind: number for kind, number in found.items() if number}


def config(reference: Mapping[str, Any]) -> dict[str, Any]:
    """The config, as the last session left it."""
    found: dict[str, Any] = {}
    for log in all_logs(reference):
        for entry in WandBLog(log).entries():
            kind = entry.WhichOneof("record_type")
            updates = entry.run.config.update if kind == "run" else entry.config.update
            for update in updates:
                _put(found, list(update.nested_key) or [update.key], json.loads(update.value_json))
    return found


def tags(reference: Mapping[str, Any]) -> list[str]:
    """The run's tags, as the last session that had any left them."""
    found: list[str] = []
    for log in all_logs(reference):
        for entry in WandBLog(log).entries():
            found = list(entry.run.tags) or found
    return found


def _kinds(row: dict[str, Any]) -> Iterable[str]:
    for key, value in row.items():
        if key.startswith("_"):
            continue
        if isinstance(value, str):
            yield TEXT
        elif isinstance(value, dict) and (kind := _KINDS.get(value["_type"])):
            is_figure = FIGURES in Path(value.get("path", "")).parts
            yield FIGURE if is_figure else kind


def _artifacts(reference: Mapping[str, Any]) -> Counter[str]:
    """How many artifacts of each kind; what two sessions have is counted once."""
    most: Counter[tuple[str, ...]] = Counter()
    for log in all_logs(reference):
        entries = (entry.artifact for entry in WandBLog(log).entries() if entry.HasField("artifact"))
        most |= Counter((_artifact_kind(a), a.name, a.digest, a.metadata) for a in entries)
    kinds: Counter[str] = Counter()
    for (kind, *_), number in most.items():
        kinds[kind] += number
    del kinds[""]
    return kinds


def _artifact_kind(artifact: Any) -> str:
    if artifact.type in _NOT_LOGGED:
        return ""
    if artifact.type == STAND_IN:
        return str(json.loads(artifact.metadata or "{}").get("kind", FILE))
    return MODEL if artifact.type == "model" else FILE


def _put(nested: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        inner = nested.setdefault(name, {})
        nested = inner if isinstance(inner, dict) else {}
    nested[path[-1]] = value
