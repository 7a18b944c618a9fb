"""What a cluster's nodes are called: the same name for the same node, whatever happens around it."""

from hypothesis import given
from hypothesis import strategies as st

from rl_logging.sources.ray_names import Node, NodeNames


def node(id_: str, name: str = "", host: str = "") -> Node:
    """A node at an address of its own."""
    return Node(f"{id_}-and-many-more-characters", f"10.0.0.{id_}", 80, name, host)


def called(names: NodeNames, *nodes: Node) -> list[str]:
    """The names, in the order of the nodes."""
    found = {named.address: named.name for named in names.of(nodes)}
    return [found[each.address] for each in nodes]


def test_ray_name_is_the_name_where_it_is_unique():
    """What ``ray start --node-name`` says."""
    assert called(NodeNames(), node("1", "head", "a"), node("2", "worker", "a")) == ["head", "worker"]


def test_host_is_the_name_where_rays_is_not_unique():
    """Two nodes with one name would be one curve."""
    assert called(NodeNames(), node("1", "n", "a"), node("2", "n", "b")) == ["a", "b"]


def test_id_is_the_name_where_neither_is_unique():
    """Two raylets on one host."""
    two = Node("abcdefgh1", "10.0.0.1", 80, "n", "a"), Node("ijklmnop2", "10.0.0.1", 81, "n", "a")

    assert [named.name for named in NodeNames().of(two)] == ["abcdefgh", "ijklmnop"]


def test_node_keeps_its_name_when_another_of_that_name_comes():
    """A curve must not change its name in the middle of a run."""
    names, first, second = NodeNames(), node("1", "n", "a"), node("2", "n", "b")

    assert called(names, first) == ["n"]
    assert called(names, second, first) == ["b", "n"]


def test_node_that_was_restarted_gets_its_name_again():
    """Ray gives it a new id, but it is the same machine."""
    names = NodeNames()
    assert called(names, node("1", "n", "a"), node("2", "m", "b")) == ["n", "m"]

    assert called(names, node("2", "m", "b")) == ["m"]
    assert called(names, node("2", "m", "b"), node("3", "n", "a")) == ["m", "n"]


def test_place_is_that_of_the_first_sight():
    """Ray lists nodes in the order of a hash; a peer's numbers move when a node joins."""
    names = NodeNames(by_place=True)
    a, b, c = node("1", "a"), node("2", "b"), node("3", "c")

    assert called(names, b, a) == ["0", "1"]
    assert called(names, c, a, b) == ["2", "1", "0"]
    assert called(names, a, c) == ["1", "2"]
    assert called(names, node("9", "b"), a) == ["0", "1"]


def test_name_from_outside_is_no_path_and_no_control():
    """It becomes a part of metrics' names, and those a part of paths."""
    assert called(NodeNames(), node("1", "../a b\x1b[31m/é")) == [".._a_b__31m__"]


def test_nodes_are_in_the_order_of_first_sight():
    """Of two nodes on one host the first one has the GPUs, also tomorrow."""
    names = NodeNames()
    names.of([node("2", "z")])

    assert [named.name for named in names.of([node("1", "a"), node("2", "z")])] == ["z", "a"]


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from("123456"), st.sampled_from("xy"), st.sampled_from("ab")),
            unique_by=lambda each: each[0],
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_names_are_unique_and_stay(rounds, by_place):
    """However nodes come and go."""
    names, before = NodeNames(by_place), {}
    for round_ in rounds:
        nodes = [node(*each) for each in round_]
        now = dict(zip([each.id for each in nodes], called(names, *nodes), strict=True))

        assert len(set(now.values())) == len(nodes)
        assert {id_: now[id_] for id_ in now.keys() & before.keys()} == {
            id_: before[id_] for id_ in now.keys() & before.keys()
        }
        before = now
