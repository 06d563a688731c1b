"""Which class of a data set is which class of a model: by name where that is certain, otherwise by id."""

import collections
import dataclasses
import itertools
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fpn_tf.data.dataset import Dataset
from fpn_tf.errors import DataError

Categories = Mapping[int, str | None]  # id -> name, in the order of classes 1..K; None: the name is not known
LISTED = 20  # ids that a message lists


class Matching(NamedTuple):
    """Which of a model's classes those of a data set are."""

    ids: dict[int, int]  # the data set's id -> the model's, or one that is none of the model's
    notes: tuple[str, ...]  # what a user should know of it


def matched(known: Categories, given: Categories, used: Collection[int], source: str) -> Matching:
    """Matches the classes of a data set with those of a model.

    By name where names differ among themselves on both sides and one side has all of the other's,
    letter for letter or else without regard to case, spaces and underscores: two exports of one
    collection number and order their classes as they like. By id otherwise, unless a name speaks
    against it. Classes without a box, where they stand in the way, are passed over.

    Args:
        known: the model's classes.
        given: the data set's classes.
        used: ids of those that have boxes.
        source: what names the data set in messages: a key and its value, or a file.

    Raises:
        DataError: neither way is certain; the line lists the classes of both.
    """
    with_boxes = {category: name for category, name in given.items() if category in used}
    for part in (given, with_boxes):
        ids = _by_name(known, part, str) or _by_name(known, part, folded)
        if ids:
            note = f"{source}: has other ids than the model; classes are matched by name"
            notes = (note,) if any(ids[category] != category for category in ids) else ()
            break
        if _may_match_by_id(known, part):
            ids = {category: category for category in part if category in known}
            notes = _renamed(known, part, ids, source)
            break
    else:
        raise DataError(
            f"{source}: has the classes {in_words(given)}; the model has {in_words(known)}; expected "
            "the same names, each of them once, or the same ids"
        )
    free = itertools.count(max(known) + 1)
    return Matching({c: ids[c] if c in ids else next(free) for c in given}, notes)


def in_words(categories: Categories) -> str:
    """`id: name` of every entry, of many the first; the id alone where there is no name."""
    texts = [str(i) if name is None else f"{i}: {name}" for i, name in categories.items()]
    return ", ".join(texts[:LISTED]) + (f", ... ({len(texts)} in all)" if len(texts) > LISTED else "")


def categories_of(dataset: Dataset) -> Categories:
    """A data set's classes."""
    return dict(zip(dataset.category_ids, dataset.class_names))


def known_by(ids: Sequence[int], names: Sequence[str], count: int) -> Categories:
    """A model's `count` classes, by ids and names either of which may be empty: 1..K, and not known."""
    return dict(zip(ids or range(1, count + 1), names or [None] * count))


def in_classes_of(dataset: Dataset, known: Categories, ids: Mapping[int, int]) -> Dataset:
    """A Dataset whose classes and category ids are a model's, in its records and in its ground truth.

    Args:
        dataset: Dataset.
        known: the model's classes.
        ids: every id of the data set -> the model's or another, see `Matching`.

    Returns:
        A Dataset of classes 1..K as the model numbers them. A class that the model does not have
        follows as K + 1 and so on, under an id that the model does not use.
    """
    every_id = (*known, *(i for i in ids.values() if i not in known))
    class_of = {category: number for number, category in enumerate(every_id, start=1)}
    classes = np.asarray([class_of[ids[old]] for old in dataset.category_ids], np.int32)
    name_of = dict(known) | {ids[old]: name for old, name in categories_of(dataset).items()}
    entries = [entry | {"id": ids[entry["id"]]} for entry in dataset.columns.category_entries]
    return dataclasses.replace(
        dataset,
        records=dataclasses.replace(dataset.records, classes=classes[dataset.records.classes - 1]),
        category_ids=every_id,
        class_names=tuple(name_of[i] or f"class {number}" for i, number in class_of.items()),
        columns=dataclasses.replace(dataset.columns, category_entries=entries),
    )


def used_ids(coco: dict) -> set[int]:
    """Category ids that have annotations."""
    return {annotation["category_id"] for annotation in coco["annotations"]}


def renumbered(coco: dict, ids: Mapping[int, int]) -> dict:
    """A copy of ground truth in COCO's form under other category ids."""
    return coco | {
        "categories": [category | {"id": ids[category["id"]]} for category in coco["categories"]],
        "annotations": [a | {"category_id": ids[a["category_id"]]} for a in coco["annotations"]],
    }


def unknown_note(coco: dict, known: Categories, source: str) -> str | None:
    """What a user should know of boxes whose class the model does not have, or None."""
    counts = collections.Counter(a["category_id"] for a in coco["annotations"] if not a.get("iscrowd"))
    names = [c["name"] for c in coco["categories"] if c["id"] not in known and counts[c["id"]]]
    missed = sum(count for category, count in counts.items() if category not in known)
    if not names:
        return None
    return f"{source}: {missed} boxes count as missed, of classes that the model lacks: {', '.join(names)}"


def _renamed(known, given, ids, source):
    """The notes where classes that are matched by id have other names than the model's."""
    pairs = [
        f"{category} is {given[category]}, the model's {known[category]}"
        for category in ids
        if known[category] is not None and folded(known[category]) != folded(given[category])
    ]
    return (f"{source}: has other names than the model; matched by id: {'; '.join(pairs)}",) if pairs else ()


def _by_name(known: Categories, given: Categories, spelled: Callable[[str], str]) -> dict[int, int]:
    """The data set's ids -> the model's of the same name; {} where names are no sure guide."""
    if None in known.values():
        return {}
    id_of = {spelled(name): category for category, name in known.items()}
    names = {category: spelled(name) for category, name in given.items()}
    are_unique = len(id_of) == len(known) and len(set(names.values())) == len(names)
    agree = set(names.values()) <= id_of.keys() or id_of.keys() <= set(names.values())
    if not (are_unique and agree):
        return {}
    return {category: id_of[name] for category, name in names.items() if name in id_of}


def _may_match_by_id(known: Categories, given: Categories) -> bool:
    """Whether some ids are shared and no class of the data set has its name under another id of the model.

    Where no name is shared at all, two sets that have nothing to do with each other may both begin at
    1: then all ids have to be the same.
    """
    shared = known.keys() & given.keys()
    if None in known.values():
        return bool(shared)
    model = {category: folded(name) for category, name in known.items()}
    names = {category: folded(name) for category, name in given.items()}
    moved = any(n in model.values() and model.get(category) != n for category, n in names.items())
    has_common_name = any(model[category] == names[category] for category in shared)
    return not moved and (has_common_name or known.keys() == given.keys())


def folded(name):
    """A name without regard to case, spaces, underscores and the ways to write an accent."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())
