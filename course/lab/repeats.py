"""Equal boxes that follow each other are drawn once."""

import math
from collections import defaultdict

from course.lab.boxes import Edge, Node


def folded(
    nodes: list[Node], edges: list[Edge]
) -> tuple[list[Node], list[Edge], list[tuple[list[Node], int]]]:
    """Draw equal boxes, or equal chains of boxes, that follow each other once."""
    groups, stand_in = [], {}
    for chain in _chains(nodes, edges):
        looks = [_look(node, edges) for node in chain]
        i = 0
        while i < len(chain):
            period, times = _period(looks, i)
            first, last = chain[i : i + period], chain[i + period * (times - 1) :][:period]
            if times > 1 and any(node.module for node in first):
                for j in range(i, i + period * times):
                    stand_in[chain[j]] = chain[i + (j - i) % period]
                for node, other in zip(first, last, strict=True):
                    node.repeats, node.last = times, other.name
                    node.went = other.went
                if period > 1:
                    groups.append((first, times))
                i += period * times
            else:
                i += 1
    kept: dict[tuple[Node, Node], Edge] = {}
    position = {node: i for i, node in enumerate(nodes)}
    for edge in edges:
        source, target = (stand_in.get(node, node) for node in (edge.source, edge.target))
        if position[source] < position[target]:  # not from one repeat to the next
            kept.setdefault((source, target), Edge(source, target, edge.shapes, edge.role))
    return [n for n in nodes if stand_in.get(n, n) is n], list(kept.values()), groups


def _chains(nodes: list[Node], edges: list[Edge]) -> list[list[Node]]:
    """Longest rows of boxes in which each feeds the next one only.

    What else the next one is given, the time or a memory that all of them share, is part of its
    look.
    """
    after, before = defaultdict(list), defaultdict(list)
    for edge in edges:
        if edge.role != "side":
            after[edge.source].append(edge)
        if edge.role == "main":
            before[edge.target].append(edge.source)

    def follower(node: Node) -> Node | None:
        if len(after[node]) != 1 or after[node][0].role != "main":
            return None
        target = after[node][0].target
        alone = before[target] == [node] and target.inside == node.inside
        return target if alone else None

    followers = {node: follower(node) for node in nodes}
    heads = set(nodes) - set(followers.values())
    chains = []
    for node in nodes:
        if node in heads:
            chain = [node]
            while followers[chain[-1]] is not None:
                chain.append(followers[chain[-1]])
            chains.append(chain)
    return chains


def _look(node: Node, edges: list[Edge]) -> tuple:
    """What has to be equal for boxes to be drawn as one."""
    sides = frozenset(e.source for e in edges if e.target is node and e.role != "main")
    what = [repr(node.module) if node.module else node.name, *node.does]
    if node.module:
        what += [(name, t.shape, t.dtype) for name, t in node.module.state_dict().items()]
    return node.kind, what, node.came, node.went, sides


def _period(looks: list[tuple], start: int) -> tuple[int, int]:
    """The row of looks from `start` on that repeats over the longest stretch: length, times."""
    best = (1, 1)
    for period in range(1, (len(looks) - start) // 2 + 1):
        pattern, times = looks[start : start + period], 1
        while looks[start + period * times : start + period * (times + 1)] == pattern:
            times += 1
        if times > 1 and period * times > math.prod(best):
            best = (period, times)
    return best
