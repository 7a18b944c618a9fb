"""Conversations with a language model, made plain: what was said, by whom, with which tools.

Pictures are there by reference: a path or an address. Their bytes are never kept.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_logging.values import Value, to_plain, to_text, to_utf8

_REFERENCE = 500  # characters of an address; what is longer is the thing itself, as a text


@dataclass(frozen=True, slots=True)
class Message:
    """What one side said.

    :param role: who: ``system``, ``user``, ``assistant``, ``tool`` or any other name
    :param text: all of it as a text for people
    :param plain: all of it as plain values: ``role``, ``content``, and ``tool_calls`` if there are any
    """

    role: str
    text: str
    plain: Mapping[str, Value]


def to_messages(log: Any) -> tuple[Message, ...]:
    """A conversation's messages; a text alone is one message of the assistant's.

    :param log: a text, or mappings with ``role`` and ``content`` (a text, None, or parts), and
        ``tool_calls`` in OpenAI's form; what else is in them is ignored
    :raises ValueError: it is no conversation
    """
    if isinstance(log, str):
        return (to_message({"role": "assistant", "content": log}),)
    if not isinstance(log, Iterable):
        raise ValueError(f"it is of the type {type(log).__name__}")
    messages = list(log)
    for place, message in enumerate(messages):
        if not isinstance(message, Mapping) or "role" not in message:
            told = f"with the keys {_keys(message)}" if isinstance(message, Mapping) else "and no mapping"
            raise ValueError(f"its message {place} has no role: it is a {type(message).__name__} {told}")
    return tuple(map(to_message, messages))


def to_message(message: Mapping[str, Any]) -> Message:
    """One message of a conversation, made plain."""
    role, content, given = said(message["role"]), message.get("content"), message.get("tool_calls")
    calls = [] if given is None else list(given)
    if isinstance(content, (list, tuple, np.ndarray)):  # an array of objects, as a data set's table has it
        parts = [_Part(part) for part in content]
        plain_content: Value = [part.plain for part in parts]
        text = "\n".join(part.text for part in parts)
    else:
        text = said(content)
        plain_content = None if content is None else text
    plain: dict[str, Value] = {"role": role, "content": plain_content}
    if calls:
        plain["tool_calls"] = to_plain(calls)
    return Message(role, "\n".join(filter(None, [text, *map(_call_text, calls)])), plain)


class _Part:
    """A part of a message's content: a text, or what is there by reference."""

    def __init__(self, part: Any) -> None:
        self.plain: Value
        if not isinstance(part, Mapping):
            self.text = self.plain = said(part)
            return
        kind = to_text(part.get("type", "text"))
        if kind == "text":
            self.text = said(part.get("text"))
            self.plain = {"type": kind, "text": self.text}
            return
        found = _reference(part.get(kind, part.get("url", part.get("path"))))
        self.text = f"<{kind.removesuffix('_url')} {found}>"
        self.plain = {"type": kind, kind: {"url": found} if kind == "image_url" else found}


def _reference(value: Any) -> str:
    """Where something is; of what is there itself, only its kind."""
    if isinstance(value, Mapping):
        value = value.get("url")
    if not isinstance(value, (str, os.PathLike)):
        return f"({type(value).__name__})"
    text = to_text(value)
    if text.startswith("data:"):
        return f"({text[5:_REFERENCE].split(';')[0].split(',')[0]})"
    return text if len(text) <= _REFERENCE else f"({len(text):,} characters)"


def _call_text(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(function, Mapping):
        return f"-> {to_text(function)}"
    arguments = function.get("arguments", "")
    if not isinstance(arguments, str):
        arguments = json.dumps(to_plain(arguments), ensure_ascii=False)
    return f"-> {to_text(function.get('name', ''))}({to_text(arguments)})"


def said(content: Any) -> str:
    """A text as it is, also where its class has a way of its own to show it, as enumerations have."""
    if isinstance(content, str):
        return to_utf8(str.__str__(content))
    return "" if content is None else to_text(content)


def _keys(mapping: Mapping[Any, Any]) -> str:
    return ", ".join(map(to_text, list(mapping)[:10])) or "(none)"
