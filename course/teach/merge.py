"""Three-way merge of a student's notebook, cell by cell: work stays, the rest follows the course.

`base` is the copy that the student was given, `mine` what became of it, `theirs` the new copy.
Untouched cells follow `theirs`; edited and added cells stay; deleted cells stay deleted, except
those of an exercise. Two cells are the same if they have the same id.
"""

import copy
import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher

from nbformat import NotebookNode

from course.teach.workspace import exercise_of, marks_of

# These belong to the course: a student's copy can't unlock a cell or change its points.
COURSE_METADATA = ("nbgrader", "deletable", "editable")


@dataclass(frozen=True)
class Merged:
    """A merged notebook.

    Attributes:
        notebook: the result; nothing in it is shared with the inputs.
        counts: how many cells of the student's copy were "updated", "new", "removed".
        notes: one line for each cell where the student should know what was done.
    """

    notebook: NotebookNode
    counts: Counter
    notes: list[str]


def merge(
    base: NotebookNode | None,
    mine: NotebookNode,
    theirs: NotebookNode,
    fresh: frozenset[str] = frozenset(),
) -> Merged:
    """Bring a student's notebook up to date.

    Args:
        base: the copy given last; None if it is lost: then what differs counts as edited.
        mine: the student's notebook.
        theirs: the copy to give now, every cell with its own id.
        fresh: ids of cells of `theirs` to take as they are, whatever the student did.
    """
    old = {cell.id: cell for cell in base.cells} if base else {}
    new = {cell.id: cell for cell in theirs.cells}
    notebook = _identified(mine, [*old.values(), *new.values()])
    counts, notes, kept = Counter(), [], {}

    for cell in notebook.cells:
        if cell.id in fresh:
            kept[cell.id] = copy.deepcopy(new[cell.id])
        elif cell.id in new:
            kept[cell.id] = _updated(old.get(cell.id), cell, new[cell.id], notes, counts)
        elif cell.id not in old:
            kept[cell.id] = _students_own(cell)
        elif _content(cell) != _content(old[cell.id]):
            notes.append(f"{_label(cell)}: gone from the course, kept because you edited it")
            kept[cell.id] = _students_own(cell)
        else:
            counts["removed"] += 1

    present = {cell.id for cell in notebook.cells}
    for key, cell in new.items():
        if key in present:
            continue
        if key not in old:
            counts["new"] += 1
        elif key in fresh or exercise_of(cell):
            notes.append(f"{_label(cell)}: you deleted it, it is back because the check needs it")
        else:
            continue
        kept[key] = copy.deepcopy(cell)

    mine_order = [cell.id for cell in notebook.cells]
    order = _order(list(old), mine_order, list(new), set(kept))
    notebook.cells = [kept[key] for key in order]
    notebook.metadata = _metadata((base or theirs).metadata, notebook.metadata, theirs.metadata)
    notebook.nbformat_minor = max(notebook.nbformat_minor, theirs.nbformat_minor)
    return Merged(notebook, counts, notes)


def _updated(
    old: NotebookNode | None,
    mine: NotebookNode,
    new: NotebookNode,
    notes: list[str],
    counts: Counter,
) -> NotebookNode:
    """A cell that the student and the course both have."""
    same, touched = _content(mine) == _content(new), _content(mine) != _content(old)
    if same or touched:
        cell = copy.deepcopy(mine)  # with its outputs
    else:
        cell = copy.deepcopy(new)
        counts["updated"] += 1
    if touched and not same:
        if old is None:
            notes.append(f"{_label(new)}: not as the course has it, kept as yours")
        elif _content(old) != _content(new):
            notes.append(f"{_label(new)}: you and the course both changed it, yours is kept")
    cell.metadata = _metadata(
        (old or new).metadata, mine.metadata, new.metadata, always=COURSE_METADATA
    )
    return cell


def _students_own(cell: NotebookNode) -> NotebookNode:
    """A cell that the course does not have; pasted from an exercise it is no second exercise."""
    if "nbgrader" in cell.metadata:
        for key in COURSE_METADATA:
            cell.metadata.pop(key, None)
    return cell


def _identified(notebook: NotebookNode, known: list[NotebookNode]) -> NotebookNode:
    """A copy with a valid id of its own in every cell.

    Some editors drop or renew ids. A cell of the course that lost its id gets it back by its
    exercise or else by its content.
    """
    notebook = copy.deepcopy(notebook)
    missing = {cell.id for cell in known}
    stray, taken = [], set()
    for cell in notebook.cells:
        if _valid(cell.get("id")) and cell.id in missing:
            missing.remove(cell.id)
            taken.add(cell.id)
        else:
            stray.append(cell)
    for cell in stray:
        name = marks_of(cell).get("grade_id")
        lost = [k.id for k in known if name and marks_of(k).get("grade_id") == name]
        lost += [k.id for k in known if cell.source.strip() and _content(k) == _content(cell)]
        found = next((key for key in lost if key in missing), None)
        if found:
            missing.remove(found)
            cell.id = found
        elif not _valid(cell.get("id")) or cell.id in taken:
            cell.id = _new_id(cell, taken.union(k.id for k in known))
        taken.add(cell.id)
    return notebook


def _valid(key: object) -> bool:
    return isinstance(key, str) and re.fullmatch(r"[\w-]{1,64}", key, re.ASCII) is not None


def _new_id(cell: NotebookNode, taken: set[str]) -> str:
    seed, count = repr(_content(cell)), 0
    while (key := hashlib.sha256(f"{seed}{count}".encode()).hexdigest()[:8]) in taken:
        count += 1
    return key


def _order(old: list[str], mine: list[str], new: list[str], kept: set[str]) -> list[str]:
    """Ids of `kept` in their order: the student's, with the moves and new cells of the course.

    A cell that the student added goes wherever the course's cell before it goes.
    """
    course = set(new)
    both = [key for key in old if key in course]
    ours = [key for key in new if key in set(old)]
    blocks = SequenceMatcher(None, both, ours, autojunk=False).get_matching_blocks()
    moved = set(ours).difference(*(both[b.a : b.a + b.size] for b in blocks))

    head = ""  # no id is empty
    followers: dict[str, list[str]] = {head: []}
    heads = [head]
    for key in mine:
        if key in course:
            head = key
            followers[head] = []
            if key not in moved:
                heads.append(key)
        elif key in kept:
            followers[head].append(key)
    previous = ""
    for key in new:
        if key not in kept:
            continue
        if key not in heads:
            heads.insert(heads.index(previous) + 1, key)
        previous = key
    return [key for head in heads for key in [head, *followers.get(head, [])] if key]


def _metadata(
    base: NotebookNode, mine: NotebookNode, theirs: NotebookNode, always: tuple[str, ...] = ()
) -> NotebookNode:
    """Key by key: what the student changed stays, the rest follows; `always` are the course's."""
    merged = NotebookNode()
    for key in {**theirs, **mine}:
        follow = key in always or mine.get(key) == base.get(key)
        source = theirs if follow else mine
        if key in source:
            merged[key] = copy.deepcopy(source[key])
    return merged


def _content(cell: NotebookNode | None) -> tuple | None:
    """What a student writes: type, source, pasted pictures."""
    return cell and (cell.cell_type, cell.source, cell.get("attachments") or {})


def _label(cell: NotebookNode) -> str:
    """A cell in words."""
    if name := marks_of(cell).get("grade_id"):
        return f"exercise {name}"
    first = next((line for line in cell.source.splitlines() if line.strip()), "")
    return f"{cell.cell_type} cell {first[:40]!r}"
