r"""How code, YAML, shells and addresses give a value to a name.

Each pattern has a group ``name``, and its last group is the value. A value may hold a further name
with its own, so a pattern ends with the name and only looks at what follows. Each takes time in
proportion to the text: a repetition has a bound, or ends where what follows it begins.
"""

import re

from rl_logging.secret_names import words

_NAME = r"(?<![\w.-])(?P<name>[\w.-]{1,100})"
_GAP = r"[ \t]{0,40}"

QUERY = re.compile(r"""[?&;](?P<name>[\w.-]{1,100})=(?P<value>[^&;\s"'<>#\\]+)""")
"""In an address: ``?token=X``."""

LITERAL = re.compile(
    rf"""{_NAME}(?=(?:\\?["'])?\]?{_GAP}"""
    rf"""(?::[ \t]{{0,8}}[\w.\[\]| ]{{1,60}}?)?(?:[:=]=?>?){_GAP}[bfruBFRU]{{0,2}}"""
    r'''(?:"{3}([^"\\\n]+)"{3}|"([^"\\\n]*(?:\\.[^"\\\n]*)*)"'''
    r"""|'([^'\\\n]*(?:\\.[^'\\\n]*)*)'|\\"([^"\\\n]+)\\"))"""
)
"""A quoted value, in code or JSON: ``x["api_key"] = "X"``, ``password: str = 'X'``, ``{"token": "X"}``."""

GLUED = re.compile(rf"""{_NAME}(?=["']?[:=]["']?(?P<value>[^\s,;&{{}}\[\]"']+))""")
"""Anywhere in one argument of a command: ``db={user:me,password:X}``, ``-eTOKEN=X``."""

_LINE = re.compile(
    rf"^[+\- ]?(?P<indent>[ \t]{{0,80}})(?:- )?(?P<shell>(?:export|set|ENV|ARG)[ \t]{{1,8}})?"
    rf"(?P<name>[\w.-]{{1,100}})(?P<gap>:[ \t]{{1,40}}|{_GAP}={_GAP})"
    r"""(?P<value>[^\s"'#=]\S*)(?=[ \t\r]{0,40}(?:#.*)?$)""",
    re.MULTILINE,
)
_ENVIRONMENT = re.compile(
    r"""(?<![\w.$-])(?P<name>[A-Z][A-Z0-9_]{1,99})=(?P<value>[^\s"',;()=][^\s"',;()]*)"""
)
_OPTION = re.compile(r"""(?<![\w-])--(?P<name>[A-Za-z][\w-]{0,99})(?P<gap>[= ])(?P<value>[^\s"'-][^\s"']*)""")
ASSIGNED = (_LINE, _ENVIRONMENT, _OPTION)
"""An unquoted value: a line ``token: X`` or ``TOKEN=X``, ``TOKEN=X python …``, ``--token X``."""

_NO_VALUE = re.compile(r"|\$?\{[^{}]*\}|\$\w+|<[^<>]*>|%(?:\(\w*\))?s")
_OPENING = re.compile(r"""[:=][ \t>=]{0,40}[bfruBFRU]{0,2}\\?["']""")
_REFERENCE = re.compile(r"[$<{(\[|>!&*@%`]")
_CALL = re.compile(r"[A-Za-z_][\w.]*[(\[](?:.*[(\[{)\]])?:?")
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.]*")
_TYPES = re.compile(
    "any|bool|boolean|bytes|callable|dict|false|float|int|list|none|null|number|object|off|on|"
    "optional|required|secretbytes|secretstr|self|str|string|tensor|true|undefined"
)


def may_assign(text: str) -> bool:
    """Whether a :data:`LITERAL` may be in a text; this is found out faster."""
    return ('"' in text or "'" in text) and _OPENING.search(text) is not None


def is_reference(match: re.Match[str]) -> bool:
    """Whether a quoted value is empty, or says where the real one stands: ``${TOKEN}``, ``<your key>``."""
    return _NO_VALUE.fullmatch(match[match.lastindex or 0]) is not None


def is_code(match: re.Match[str]) -> bool:
    """Whether an unquoted value is an expression or a type, rather than the value itself."""
    groups = match.groupdict()
    value = groups["value"].rstrip(",;")
    if not value or _REFERENCE.match(value) or _CALL.fullmatch(value):
        return True
    last = value.rpartition(".")[2]
    if words(last) == words(groups["name"]) or _TYPES.fullmatch(last.lower()):
        return True
    if not _reads_like_code(groups) or not _IDENTIFIER.fullmatch(value):
        return False
    mixed = value.isalnum() and not value.isalpha()  # "hunter2" is no name that people give
    return not mixed or (len(value) < 6 and groups.get("gap") != " ")


def _reads_like_code(groups: dict[str, str | None]) -> bool:
    gap, name, value = (groups.get(part) or "" for part in ("gap", "name", "value"))
    if groups.get("shell") or not gap:
        return False
    if gap == " " or value.endswith((",", ";")) or "=" in gap.strip() != gap:
        return True
    return gap == "=" and bool(groups.get("indent")) and not name.isupper()
