"""Secrets stay out: what looks like one is replaced before anything is written.

A value is a secret by the name that it stands under (:mod:`rl_logging.secret_names`), by
its shape (a GitHub token is one wherever it stands), or because it was hidden before.
``True``, ``False``, ``None`` and what is empty are no secret under any name.

Nothing here raises, and all takes time in proportion to the text. It cannot know a
secret that has no known shape, stands without its name, and was never seen with it.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rl_logging.assignments import ASSIGNED, GLUED, LITERAL, QUERY, is_code, is_reference, may_assign
from rl_logging.key_shapes import SHAPES, TRIGGERS, is_special_token, spellings
from rl_logging.secret_names import DOUBTFUL, PLAIN, name_rule
from rl_logging.values import Value, to_text

HIDDEN = "<hidden>"
_SHORTEST, _MOST = 8, 500  # of the values that are hidden wherever they stand: length, number
_WORD_LENGTH = 16  # fewer letters, and nothing else, are a word of the language
_PLACEHOLDERS = frozenset({"authorization", "credential", "credentials", "passphrase", "password"})
_CONTAINERS = (Mapping, list, tuple)
_MAX_DEPTH = 64
_QUERY_WORDS = frozenset({"key", "sig", "signature"})  # secret in an address, innocent elsewhere
_KEY = re.compile(r"[\w./@+~-]+")  # what stands before the "=" of an argument
_DOTTED = re.compile(r"[A-Za-z]+(?:[_.:][A-Za-z]+)+")  # names as code has many, and not only here
Judge = Callable[[re.Match[str]], str | None]


class Redaction:
    """Replaces secrets, and remembers them and the names that they had.

    What this process's environment variables hold under a secret's name is known from the start.

    :param names: further names of secrets, matched by words as the known ones are: ``pin`` is in
        ``userPin`` and in ``PIN_CODE``, and not in ``spinning``
    :raises TypeError: ``names`` is one text
    :raises ValueError: a name has neither letter nor digit
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._rule = name_rule(names)
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}  # the name of each hidden value, the longest value first
        self._hidden: dict[str, str] = {}  # each name, and what of it may be said
        self._hidden_by: dict[str, int] = {}  # the thread
        self._told: set[str] = set()
        for name, value in dict(os.environ).items():
            if strength := self._rule(name):
                self._remember(to_text(value), name, sure=strength == PLAIN)

    def new_hidden(self) -> list[str]:
        """The names under which this thread hid something since its last call, or what shapes are called."""
        if len(self._told) == len(self._hidden_by):  # as at nearly every dump
            return []
        me = threading.get_ident()
        with self._lock:
            mine = [self._hidden[name] for name, thread in self._hidden_by.items() if thread == me]
            new = [name for name in dict.fromkeys(mine) if name not in self._told]
            self._told.update(new)
        return new

    def text(self, text: str) -> str:
        """A text without its secrets: known shapes, users in addresses, what was hidden before.

        What a *plain* name stands before in quotes is hidden, too: ``"password": "X"``.
        """
        text = self._without_shapes(text)
        return self._hide(LITERAL, text, self._quoted) if may_assign(text) else text

    def source(self, text: str) -> str:
        """As :meth:`text`, for code and diffs: what is assigned to a secret's name is hidden, too.

        Without quotes that is what reads like a line of YAML, of a shell or of an environment
        file. Expressions and types stay: ``token = tokens.pop()``, ``password: str``.
        """
        known, text = self._known, self._without_shapes(text)
        if may_assign(text):
            text = self._hide(LITERAL, text, self._quoted_in_source)
        for pattern in ASSIGNED:
            text = self._hide(pattern, text, self._unquoted)
        return text if known is self._known else self._without_shapes(text)

    def command(self, arguments: Sequence[str]) -> list[str]:
        """A command line without its secrets: ``--api-key X``, ``--api_key=X``, ``trainer.api_key=X``."""
        known, safe = self._known, list[str]()
        option = ""  # whose value comes next
        for argument in map(_exact, arguments):
            is_option = argument.startswith("-")
            hide = option and not is_option
            safe.append(self._replaced(argument, option) if hide else self._argument(argument))
            option = argument if is_option and "=" not in argument and self._rule(argument) else ""
        return safe if known is self._known else [self._without_shapes(argument) for argument in safe]

    def nested(self, value: Value) -> Value:
        """A plain value, of any depth, without the secrets in it."""
        known = self._known
        try:
            safe = self._nested(value, ())
            return safe if known is self._known else self._nested(value, ())  # a secret may precede its name
        except Exception:  # it is no plain value: the object's own code may raise anything
            return HIDDEN

    def _nested(self, value: Value, parents: tuple[int, ...]) -> Value:
        kind = type(value)
        if issubclass(kind, str):
            return self.text(value)
        if not issubclass(kind, _CONTAINERS):
            return value
        if id(value) in parents or len(parents) == _MAX_DEPTH:
            return HIDDEN
        parents = (*parents, id(value))
        if not issubclass(kind, Mapping):
            return [self._nested(item, parents) for item in value]
        safe: dict[str, Value] = {}
        for key, item in value.items():
            name = self.text(key)
            while name in safe:  # two keys that differ only in a secret are both kept
                name += "_"
            safe[name] = self._under(_exact(key), item, parents)
        return safe

    def _under(self, name: str, value: Value, parents: tuple[int, ...]) -> Value:
        strength = self._rule(name)
        if strength is None or not _is_secret(value, strength):
            return self._nested(value, parents)
        sure = strength == PLAIN and not issubclass(type(value), _CONTAINERS)
        for leaf in _leaves(value):
            if issubclass(type(leaf), (str, int)):
                self._remember(_exact(leaf), name, sure=sure)
        self._note(name)
        return HIDDEN

    def _argument(self, argument: str) -> str:
        name, _, value = argument.partition("=")
        if value and _KEY.fullmatch(name) and self._rule(name):
            return f"{name}={self._replaced(value, name)}"
        return self._hide(GLUED, self.source(argument), self._learned)

    def _without_shapes(self, text: str) -> str:
        text = _exact(text)
        for value, name in self._known.items():
            if value in text:
                text = text.replace(value, HIDDEN)
                self._note(name)
        lowered = text.lower()
        if any(map(lowered.__contains__, TRIGGERS)):  # few texts have one; this asks fastest
            for trigger, kind, pattern in SHAPES:
                text = self._hide(pattern, text, _called(kind)) if trigger in lowered else text
        in_address = "=" in text and ("?" in text or "&" in text)
        return self._hide(QUERY, text, self._queried) if in_address else text

    def _hide(self, pattern: re.Pattern[str], text: str, judge: Judge) -> str:
        """Replace what is secret of what a pattern finds; ``judge`` gives a secret's name, else None."""
        parts, end = [], 0
        for match in pattern.finditer(text):
            start, stop = match.span(match.lastindex or 0)
            if start >= end and text[start:stop] != HIDDEN and (name := judge(match)):
                self._note(name)
                parts += [text[end:start], HIDDEN]
                end = stop
        return "".join([*parts, text[end:]]) if parts else text

    def _queried(self, match: re.Match[str]) -> str | None:
        name = match["name"]
        return name if name.lower() in _QUERY_WORDS or self._rule(name) else None

    def _quoted(self, match: re.Match[str]) -> str | None:
        plain = self._rule(match["name"]) == PLAIN
        return match["name"] if plain and not is_reference(match) else None

    def _quoted_in_source(self, match: re.Match[str]) -> str | None:
        return None if is_reference(match) else self._learned(match)

    def _unquoted(self, match: re.Match[str]) -> str | None:
        strength, value = self._rule(match["name"]), match["value"]
        number = strength == DOUBTFUL and value.isdecimal() and len(value) < _SHORTEST
        return None if strength is None or number or is_code(match) else self._learned(match)

    def _learned(self, match: re.Match[str]) -> str | None:
        if not self._rule(match["name"]):
            return None
        value = match[match.lastindex or 0]
        if not _DOTTED.fullmatch(value):
            self._remember(value, match["name"], sure=False)
        return match["name"]

    def _replaced(self, value: str, name: str) -> str:
        if value != HIDDEN:
            self._remember(value, name, sure=self._rule(name) == PLAIN)
            self._note(name.lstrip("-+~"))
        return HIDDEN

    def _note(self, name: str) -> None:
        with self._lock:
            if name in self._hidden or len(self._hidden) == _MOST:
                return
            self._hidden[name] = HIDDEN  # a name may hold its own secret
            self._hidden_by[name] = threading.get_ident()
        self._hidden[name] = self._without_shapes(name)[:200]

    def _remember(self, value: str, name: str, *, sure: bool) -> None:
        """Hide a value from now on wherever it stands.

        :param sure: it is a secret even if it looks like common words
        """
        value = value.strip()
        common = " " in value or (value.isalpha() and len(value) < _WORD_LENGTH)
        known = value in self._known or value == HIDDEN or value.lower() in _PLACEHOLDERS
        if len(value) < _SHORTEST or known or (common and not sure):
            return
        with self._lock:
            if len(self._known) < _MOST:
                values = {**self._known, **dict.fromkeys(spellings(value), name)}
                self._known = dict(sorted(values.items(), key=lambda item: -len(item[0])))


def _exact(text: Any) -> str:
    """The text itself where a subclass of str has methods of its own; any other value as text."""
    return str.__str__(text) if issubclass(type(text), str) else to_text(text)


def _called(kind: str) -> Judge:
    return lambda _: kind


def _is_secret(value: Value, strength: str) -> bool:
    kind = type(value)
    if issubclass(kind, str):
        return _exact(value) not in ("", HIDDEN) and (strength == PLAIN or not is_special_token(value))
    if issubclass(kind, _CONTAINERS) and strength == DOUBTFUL:
        return any(issubclass(type(leaf), str) for leaf in _leaves(value))
    if issubclass(kind, _CONTAINERS):
        return len(value) > 0
    return strength == PLAIN and value is not None and not issubclass(kind, bool)


def _leaves(value: Value) -> Iterator[Value]:
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if not issubclass(type(item), _CONTAINERS):
            yield item
        elif id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if issubclass(type(item), Mapping) else item)
