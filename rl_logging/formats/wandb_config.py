"""What W&B's config, tags and artifacts take: values and names without what it refuses, changes or loses."""

import json
import math
import re
from collections.abc import Iterable, Mapping

from rl_logging.formats.base import with_digest
from rl_logging.values import Value, number_text, short_text

FIGURES = "figures"  # the folder in W&B's media/images that tells them from other images
STAND_IN = "media"  # the type of an artifact that has the file of a value which W&B cannot show
ORIGINAL_KEYS, PROVENANCE, TAGS = "original_keys", "provenance", "tags"
RESERVED = frozenset({"_wandb", ORIGINAL_KEYS, PROVENANCE, TAGS})  # in the config, by W&B or by us
LONGEST = 20_000  # characters of a value in the config; the whole should stay well below W&B's 10 MB
_LONGEST_TAG, _LONGEST_NAME = 64, 128
_METADATA_KEYS = 100  # W&B's limit
_DIGEST = 9  # characters that with_digest adds
_INT64 = 1 << 63
_REFERENCES = ("wandb-artifact://", "artifactVersion")  # W&B looks them up on its server
_OURS_BY_TYPE = {"run_table": "run-", "code": "source-"}  # names that W&B keeps for itself


def to_config(nested: Mapping[str, Value]) -> dict[str, Value]:
    """Hyperparameters as the config holds them; what is too long is cut."""
    return {_config_name(name): fitted(value) for name, value in nested.items()}


def is_cut(nested: Value) -> bool:
    """Whether the config cannot hold a value whole."""
    if isinstance(nested, dict):
        return any(map(is_cut, nested.values()))
    return len(_text(plain(nested))) > LONGEST


def fitted(value: Value) -> Value:
    """A value as W&B can hold it, each part of a mapping no longer than it shows well."""
    if isinstance(value, dict):
        return {_safe_text(name): fitted(item) for name, item in value.items()}
    held = plain(value)
    text = _text(held)
    return held if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def plain(value: Value) -> Value:
    """A value without what JSON has no word for: NaN, infinities and long integers become texts."""
    if isinstance(value, dict):
        return {_safe_text(name): plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return _safe_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else number_text(value, digits=0)
    return value if value is None else short_text(value)


def merged(old: Value, new: Value) -> Value:
    """New values among the old ones, at any depth."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{name: merged(old.get(name), value) for name, value in new.items()}}


def tag_of(name: str, value: str) -> str:
    """A tag as W&B takes one, a text of at most 64 characters."""
    text = whole_tag(name, value)
    if not text:
        return with_digest("tag", text)
    return text if len(text) <= _LONGEST_TAG else with_digest(text[: _LONGEST_TAG - _DIGEST], text)


def whole_tag(name: str, value: str) -> str:
    return f"{name}:{value}" if value else name


def is_long_tag(name: str, value: str) -> bool:
    """Whether W&B cannot hold a tag whole."""
    return len(whole_tag(name, value)) > _LONGEST_TAG


def artifact_name(name: str, type_: str) -> str:
    """A name as W&B's artifacts take one: no other characters than ``[A-Za-z0-9_.-]``."""
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[: _LONGEST_NAME - _DIGEST] or "artifact"
    reserved = _OURS_BY_TYPE.get(type_)
    if reserved is not None and clean.startswith(reserved):
        clean = f"_{clean}"[: _LONGEST_NAME - _DIGEST]
    return clean if clean == name else with_digest(clean, name)


def artifact_type(type_: str) -> str:
    """A type as W&B's artifacts take one; some it keeps for itself."""
    clean = re.sub(r"[^\w. -]+", "_", type_)[: _LONGEST_NAME - _DIGEST] or "artifact"
    if clean == "job" or clean.startswith("wandb-"):
        clean = f"_{clean}"[: _LONGEST_NAME - _DIGEST]
    return clean if clean == type_ else with_digest(clean, type_)


def artifact_aliases(aliases: Iterable[str]) -> list[str]:
    """Names for a version as W&B takes them; ``v3`` is its own for the fourth version."""
    return list(dict.fromkeys(map(_alias, filter(None, aliases))))


def artifact_metadata(metadata: Mapping[str, Value], **ours: Value) -> dict[str, Value]:
    """What is known of an artifact, as W&B takes it: at most 100 keys."""
    held = plain(dict(metadata))
    if len(held) + len(ours) > _METADATA_KEYS:
        held = {"metadata": held}
    return {**ours, **held}


def _alias(alias: str) -> str:
    clean = re.sub(r"[/:\s]+", "_", alias)[: _LONGEST_NAME - _DIGEST]
    is_version = re.fullmatch(r"v\d+", clean) is not None
    return clean if clean == alias and not is_version else with_digest(clean, alias)


def _config_name(name: str) -> str:
    clean = name.strip("-") or "name"  # W&B strips them itself, and two names may meet
    return clean if clean == name and name not in RESERVED else with_digest(clean, name)


def _safe_text(text: str) -> str:
    return f" {text}" if text.startswith(_REFERENCES) else text


def _text(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value)
