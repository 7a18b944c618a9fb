"""Samples of what was generated: conversations or episodes with their rewards, some chosen of many.

Choosing is the same in every process and at every time: it depends on the rewards and, for
``"random"``, on the seed. No global random state is touched.
"""

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rl_logging.conversations import Message, said, to_messages
from rl_logging.episodes import KEYS, episode_return, is_episode, step_text, to_steps
from rl_logging.redaction import Redaction
from rl_logging.values import Value, is_array, is_number, to_float, to_numpy, to_plain

WAYS = ("mix", "best", "worst", "first", "random")
MAX_LINES = 24  # of a message that are shown
COLUMNS = ("step", "sample", "reward", "prompt", "response", "reference")


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation or an episode, made plain.

    :param messages: what was said; an episode is one message, with a line for each step
    :param reward: what it was worth; may be NaN
    :param reference: the answer that was wanted; None where there is none
    :param index: its place in the batch
    """

    messages: tuple[Message, ...]
    reward: float
    reference: str | None
    index: int

    @property
    def response_place(self) -> int:
        """Which message is the response: the assistant's last, or else the last; -1 where there is none."""
        places = range(len(self.messages))
        said = [place for place in places if self.messages[place].role == "assistant"]
        return said[-1] if said else len(self.messages) - 1

    @property
    def response(self) -> str:
        """The text of the response."""
        return self.messages[self.response_place].text if self.messages else ""

    @property
    def prompt(self) -> str:
        """All that was said before the response."""
        before = self.messages[: max(self.response_place, 0)]
        return "\n\n".join(f"{message.role}: {message.text}" for message in before)

    def row(self, step: int) -> tuple[Value, ...]:
        """Its cells in a table with :data:`COLUMNS`."""
        return (step, self.index, self.reward, self.prompt, self.response, self.reference)

    def line(self, step: int) -> bytes:
        """All of it as a line of JSON, with Python's words for NaN and infinities."""
        about = {"step": step, "sample": self.index, "reward": self.reward, "reference": self.reference}
        whole = {**about, "messages": [message.plain for message in self.messages]}
        return json.dumps(whole, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def to_samples(
    logs: Any, rewards: Any = None, references: Any = None, places: Iterable[int] | None = None
) -> list[Sample]:
    """Conversations or episodes of a batch as samples.

    :param logs: conversations (lists of mappings with ``role`` and ``content``, or a text), or
        episodes (mappings with ``observations``, ``actions`` and ``rewards``)
    :param rewards: a number for each, of the shape (batch,); None for the returns of episodes
    :param references: an answer that was wanted, or None, for each
    :param places: those of the batch to take; by default all
    :raises ValueError: lengths that differ, or what is neither conversation nor episode
    """
    logs = _listed(logs, "logs")
    numbers = to_rewards(logs, rewards)
    wanted = [None] * len(logs) if references is None else _listed(references, "references", len(logs))
    return [
        Sample(_messages(logs[place], place), numbers[place], _reference(wanted[place]), place)
        for place in (range(len(logs)) if places is None else places)
    ]


def to_rewards(logs: Any, rewards: Any = None) -> list[float]:
    """The reward of each log; where none are given, the returns of episodes.

    :param rewards: numbers, a list, array or tensor of the shape (batch,)
    :raises ValueError: they are no numbers, or of another length; or a log without one is no episode
    """
    logs = _listed(logs, "logs")
    if rewards is None:
        return [_return(log, place) for place, log in enumerate(logs)]
    rewards = to_numpy(rewards) if is_array(rewards) else rewards
    plain = [to_plain(reward) for reward in _listed(rewards, "rewards", len(logs))]
    for place, reward in enumerate(plain):
        if not is_number(reward):
            raise ValueError(f"a reward is a number; reward {place} is a {type(reward).__name__}")
    return [to_float(reward) for reward in plain]


def choose(samples: Sequence[Sample], count: int | None, how: str = "mix", seed: int = 0) -> list[Sample]:
    """Some of the samples.

    :param count: so many, or all where there are fewer; None for all
    :param how: ``"mix"``, half of them the best and half the worst, an odd one from the middle,
        the highest reward first; ``"best"``, ``"worst"``; ``"first"``, as they stand in the batch;
        or ``"random"``. What is equal stands by its place in the batch, and NaN last
    :param seed: for ``"random"``: the same one gives the same places
    :raises ValueError: a count below 0, or another way
    """
    return [samples[place] for place in choose_places([s.reward for s in samples], count, how, seed)]


def choose_places(rewards: Sequence[float], count: int | None, how: str, seed: int) -> list[int]:
    """The places of those that :func:`choose` takes.

    :raises ValueError: as there
    """
    if count is not None and (not isinstance(count, int) or count < 0):
        raise ValueError(f"the number of samples is 0, more, or None for all, not {count!r}")
    if how not in WAYS:
        raise ValueError(f"samples are chosen by {', '.join(map(repr, WAYS))}, not {how!r}")
    count = len(rewards) if count is None else min(count, len(rewards))
    places = range(len(rewards))
    if how == "first":
        return list(places[:count])
    if how == "random":
        return sorted(random.Random(seed).sample(places, count))
    numbers = [place for place in places if not math.isnan(rewards[place])]
    others = [place for place in places if math.isnan(rewards[place])]
    sign = 1 if how == "worst" else -1
    ranked = sorted(numbers, key=lambda place: sign * rewards[place])
    chosen = _mix(ranked, count) if how == "mix" else ranked[:count]
    return chosen + others[: count - len(chosen)]


def _mix(ranked: list[int], count: int) -> list[int]:
    """Some from both ends and the middle; of one, the best."""
    if count < 2 or count >= len(ranked):
        return ranked[:count]
    half, middle = count // 2, len(ranked) // 2
    return ranked[:half] + ranked[middle : middle + count % 2] + ranked[-half:]


def without_secrets(samples: Sequence[Sample], secrets: Redaction) -> list[Sample]:
    """The same samples, with the secrets in them hidden."""
    texts = [[s.reference, [[m.role, m.text, m.plain] for m in s.messages]] for s in samples]
    return [
        replace(sample, reference=reference, messages=tuple(Message(*parts) for parts in messages))
        for sample, (reference, messages) in zip(samples, secrets.nested(texts), strict=True)
    ]


def newest(rows: Sequence[Sequence[Value]], characters: int) -> list[Sequence[Value]]:
    """The last rows of a table whose texts together are no longer than that."""
    kept = []
    for row in reversed(rows):
        characters -= sum(len(cell) for cell in row if isinstance(cell, str))
        if characters < 0:
            break
        kept.append(row)
    return kept[::-1]


def _messages(log: Any, place: int) -> tuple[Message, ...]:
    try:
        if not is_episode(log):
            return to_messages(log)
        steps = to_steps(log)
        text = "\n".join(step_text(number, step) for number, step in enumerate(steps))
        return (Message("episode", text, {"role": "episode", "content": steps}),)
    except ValueError as error:
        raise _bad_log(place, str(error)) from None


def _bad_log(place: int, why: str) -> ValueError:
    conversation = "a conversation, a list of mappings with 'role' and 'content'"
    episode = f"an episode, a mapping with {', '.join(map(repr, KEYS))}"
    return ValueError(f"log {place} is neither {conversation}, nor {episode}: {why}")


def _return(log: Any, place: int) -> float:
    if not is_episode(log):
        raise _bad_log(place, "what has no reward is an episode")
    try:
        return episode_return(log)
    except ValueError as error:
        raise _bad_log(place, str(error)) from None


def _reference(value: Any) -> str | None:
    return None if value is None else said(value)


def _listed(values: Any, name: str, length: int | None = None) -> list[Any]:
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise ValueError(f"{name} is a list, not a {type(values).__name__}")
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise ValueError(f"{name} has the shape (batch,), not {values.shape}")
    listed = list(values)
    if length is not None and len(listed) != length:
        raise ValueError(f"there are {len(listed)} {name}, but {length} logs: each log has one")
    return listed
