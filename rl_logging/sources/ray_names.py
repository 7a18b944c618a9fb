"""How a Ray cluster's nodes are called: by names that stay, or by places that stay."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_ID_LENGTH = 8  # hexadecimal characters of a node's id, where nothing better tells it apart
_NAME_LENGTH = 60


class Node(NamedTuple):
    """A node of a Ray cluster that is alive.

    :param id: Ray's, new with each start of the node
    :param port: of its metrics; not above 0 where it has none
    """

    id: str
    address: str
    port: int
    name: str
    host: str


class Named(NamedTuple):
    """A node as it is called in metrics, and where its page is."""

    name: str
    address: str
    port: int


class NodeNames:
    """Names for nodes; each keeps the one it was first seen with.

    The name is Ray's name of the node (by default its address) if no other living node has
    it, else its host's if none has that, else the first characters of its id. A node that
    comes when another of its name is gone, as after a restart, gets that name again.

    :param by_place: a number instead, in the order in which names were first seen
    """

    def __init__(self, by_place: bool = False) -> None:
        self._by_place = by_place
        self._names: dict[str, str] = {}  # by the ids of the nodes alive
        self._places: dict[str, str] = {}  # by name

    def of(self, nodes: Sequence[Node]) -> list[Named]:
        """The nodes under their names, in the order in which they were first seen.

        :param nodes: all that are alive
        """
        alive = {node.id: node for node in nodes}
        self._names = {id_: name for id_, name in self._names.items() if id_ in alive}
        taken = set(self._names.values())
        shared = [Counter(clean(node.name) for node in nodes), Counter(clean(node.host) for node in nodes)]
        for node in nodes:
            if node.id not in self._names:
                self._names[node.id] = _choose(node, shared, taken)
                taken.add(self._names[node.id])
        for name in self._names.values():
            self._places.setdefault(name, str(len(self._places)))
        return [
            Named(self._places[name] if self._by_place else name, alive[id_].address, alive[id_].port)
            for id_, name in self._names.items()
        ]


def clean(name: str) -> str:
    """A name from outside as a part of a metric's name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:_NAME_LENGTH]


def _choose(node: Node, shared: list["Counter[str]"], taken: set[str]) -> str:
    for name, count in zip((clean(node.name), clean(node.host)), shared, strict=True):
        if name and count[name] == 1 and name not in taken:
            return name
    short = clean(node.id)[:_ID_LENGTH]
    return short if short not in taken else clean(node.id)
