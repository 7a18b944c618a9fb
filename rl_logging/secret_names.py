"""Which names are those of secrets.

A name's words count, however they are joined: ``apiKey``, ``WANDB_API_KEY``, ``db-password``.

- A *plain* name has ``password``, ``secret``, ``api_key``, ``credentials`` … anywhere in it, or one
  of the user's own. All under it is secret, numbers and whole containers too.
- A *doubtful* name ends in ``token``, ``pass``, ``auth``, ``cookie`` …, and the word before does not
  say otherwise, as in ``pad_token``. Texts under it are secret, numbers are not.

In doubt a name is a secret's: a hidden hyperparameter is a nuisance, a published password is not.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

PLAIN, DOUBTFUL = "plain", "doubtful"
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_PLAIN_WORDS = frozenset({"secret", "secrets", "cred", "creds"})
_PLAIN_JOINED = re.compile(  # in the words written as one; "secret" is not here for the secretary's sake
    "password|passwd|passphrase|passcode|credential|authorization|clientsecret|"
    "(?:access|account|api|auth|encryption|license|private|secret|signing|ssh|subscription|wandb)key|"
    "(?:access|api|auth|bearer|github|gitlab|hf|huggingface|refresh|wandb)token"
)
_DOUBTFUL_WORDS = frozenset({"auth", "bearer", "cookie", "jwt", "pass", "pwd", "token"})
_INNOCENT_BEFORE = re.compile(
    "action|agent|answer|audio|backward|bad|begin|boi|bos|by|class|cls|delimiter|each|end|eoi|eom|eos|"
    "eot|first|forward|good|image|last|latent|mask|max|min|multi|n|new|next|num|one|pad|patch|per|"
    "prev|previous|prompt|query|reasoning|register|response|reward|second|sep|separator|single|special|"
    "start|state|step|stop|target|text|think|turn|two|unk|video|vision|word"
)
_ENDINGS = frozenset({"value", "string", "str"})


def words(name: str) -> tuple[str, ...]:
    """A name's words in small letters."""
    return tuple(word.lower() for word in _WORD.findall(name))


def name_rule(own: Iterable[str] = ()) -> Callable[[str], str | None]:
    """The rule with the user's own names in it.

    :param own: names that are plain ones, too
    :return: a function that gives ``"plain"``, ``"doubtful"`` or None for a name
    :raises TypeError: ``own`` is one name and no list of them
    :raises ValueError: one of ``own`` has neither letter nor digit, and would be in every name
    """
    if isinstance(own, str):
        raise TypeError(f"the names are a list: [{own!r}]")
    phrases = {name: words(name) for name in own}
    if not all(phrases.values()):
        raise ValueError(f"a name has a letter or a digit, unlike one of {list(phrases)}")

    @lru_cache(maxsize=1000)
    def rule(name: str) -> str | None:
        parts = words(name)
        plain = any(_holds(parts, phrase) for phrase in phrases.values()) or _is_plain(parts)
        return PLAIN if plain else DOUBTFUL if _is_doubtful(parts) else None

    return rule


def _holds(parts: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    return any(parts[at : at + len(phrase)] == phrase for at in range(len(parts)))


def _is_plain(parts: tuple[str, ...]) -> bool:
    return not _PLAIN_WORDS.isdisjoint(parts) or _PLAIN_JOINED.search("".join(parts)) is not None


def _is_doubtful(parts: tuple[str, ...]) -> bool:
    while parts and (parts[-1].isdigit() or parts[-1] in _ENDINGS):
        parts = parts[:-1]
    if not parts or parts[-1] not in _DOUBTFUL_WORDS:
        return False
    # PWD alone is the working directory of every shell.
    return not _INNOCENT_BEFORE.fullmatch(parts[-2]) if len(parts) > 1 else parts[0] != "pwd"
