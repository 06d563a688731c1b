"""COCO's JSON read straight into columns; of a file that is wrong or odd it only says that it is.

Which entry is wrong, and what was expected, is told by `fpn_tf.data.coco_folder.check`, which needs a Python
object for every value and so many times the time and memory.
"""

import itertools
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct

from fpn_tf.data.columns import Columns, Texts, whole_numbers
from fpn_tf.data.json_stream import OddFileError, OtherFormError, lists_in

LARGEST = float(np.finfo(np.float32).max)
Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Pixels = Annotated[int, Meta(gt=0, lt=2**31)]


class _Category(Struct):
    id: Annotated[int, Meta(ge=-(2**31), lt=2**31)]
    name: str


class _Image(Struct, gc=False):
    id: int
    file_name: str
    height: Pixels | None = None
    width: Pixels | None = None


class _Annotation(Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[Number, Number, Number, Number]
    id: int | None = None
    area: Annotated[float, Meta(ge=0, le=LARGEST)] | None = None
    iscrowd: bool | Literal[0, 1] | None = None


def read_columns(file, further=()):
    """The Columns of a COCO file.

    Args:
        file: binary file, at its beginning.
        further: names of what else of the annotations to keep.

    Raises:
        OddFileError: the file has to be read in the slow way.
    """
    attributes = {name: f"further_{i}" for i, name in enumerate(further)}
    types = {"images": _Image, "annotations": _with_further(attributes), "categories": dict}
    arrays_of = {
        "images": _image_columns,
        "annotations": lambda entries: _annotation_columns(entries, attributes),
        "categories": lambda entries: entries,
    }
    parts = {key: [] for key in types}
    for key, entries in lists_in(file, types):
        try:
            parts[key].append(arrays_of[key](entries))
        except OverflowError:
            raise OddFileError(f"{key}: a number of more than 64 bits") from None
    categories = list(itertools.chain.from_iterable(parts.pop("categories")))
    images, annotations = (_joined(parts.pop(key)) for key in ("images", "annotations"))
    return _checked(images, annotations, categories, further)


def photo_names(file, count):
    """The names of the first photos of a COCO file, at most `count`; () of a JSON file of another form.

    Raises:
        OddFileError: the file has to be read in the slow way.
    """
    names = []
    try:
        for key, entries in lists_in(file, {"images": _Image, "annotations": Raw, "categories": Raw}):
            if key == "images":
                names += [image.file_name for image in entries[: count - len(names)]]
    except OtherFormError:
        return ()
    return tuple(names)


def _with_further(attributes):
    """_Annotation with the text of further members; attributes: {name in the file: name in the struct}."""
    if attributes.keys() & set(_Annotation.__struct_fields__):
        raise OddFileError("a field is asked for as it stands in the file")
    return msgspec.defstruct(
        "_FurtherAnnotation",
        [(attribute, Raw, Raw(b"")) for attribute in attributes.values()],
        bases=(_Annotation,),
        rename={attribute: name for name, attribute in attributes.items()},
        gc=False,
    )


def _image_columns(images):
    """{name: array or list} of a list of _Image."""
    sizes = [(image.height or 0, image.width or 0) for image in images]
    return {
        "ids": np.asarray([image.id for image in images], np.int64),
        "names": [image.file_name for image in images],
        "sizes": np.asarray(sizes, np.int32).reshape(-1, 2),
    }


def _annotation_columns(entries, attributes):
    """{name: array or list} of a list of _Annotation."""
    count = len(entries)
    numbers = itertools.chain.from_iterable(entry.bbox for entry in entries)
    boxes = np.fromiter(numbers, np.float64, 4 * count).reshape(-1, 4)
    areas = np.asarray([np.nan if entry.area is None else entry.area for entry in entries], np.float64)
    columns = {
        "ids": whole_numbers([entry.id or 0 for entry in entries]),
        "unnumbered": np.asarray([entry.id is None for entry in entries], bool),
        "image_ids": np.asarray([entry.image_id for entry in entries], np.int64),
        "category_ids": np.asarray([entry.category_id for entry in entries], np.int64),
        "boxes": boxes,
        "areas": np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas),
        "crowds": np.asarray([bool(entry.iscrowd) for entry in entries], bool),
    }
    texts = {
        name: [bytes(getattr(entry, attribute)) for entry in entries]
        for name, attribute in attributes.items()
    }
    return columns | texts


def _joined(parts):
    """The {name: array or list} of several pieces as one."""
    first, *_ = parts
    return {
        name: np.concatenate([part[name] for part in parts])
        if isinstance(values, np.ndarray)
        else list(itertools.chain.from_iterable(part[name] for part in parts))
        for name, values in first.items()
    }


def _checked(images, annotations, categories, further):
    """The Columns of what `_joined` gives and of COCO's categories. Raises: OddFileError."""
    try:
        category_ids = [category.id for category in msgspec.convert(categories, list[_Category])]
    except msgspec.ValidationError as error:
        raise OddFileError(str(error)) from None
    category_ids, ids = np.asarray(category_ids, np.int64), annotations["ids"]
    unnumbered = annotations["unnumbered"]
    if unnumbered.any():
        free = max(ids[~unnumbered].tolist(), default=0) + 1
        ids[unnumbered] = free + np.flatnonzero(unnumbered)
    if not all(map(_all_differ, (category_ids, images["ids"], ids))):
        raise OddFileError("an id is used twice")
    return Columns(
        image_ids=images["ids"],
        file_names=images["names"],
        sizes=images["sizes"],
        ids=ids,
        images=_rows_of(annotations["image_ids"], images["ids"]),
        categories=_rows_of(annotations["category_ids"], category_ids),
        boxes=annotations["boxes"],
        areas=annotations["areas"],
        crowds=annotations["crowds"],
        category_entries=categories,
        further={name: Texts.of(annotations[name]) for name in further},
    )


def _rows_of(ids, known):
    """The rows [A] int32 of ids [A] among the `known` [N]. Raises: OddFileError, where one is not known."""
    if not len(known):
        raise OddFileError("there are none")
    order = np.argsort(known)
    rows = order[np.searchsorted(known, ids, sorter=order).clip(max=len(known) - 1)].astype(np.int32)
    if not np.array_equal(known[rows], ids):
        raise OddFileError("an id is not known")
    return rows


def _all_differ(values):
    """Whether no two of the values [n] are equal."""
    values = np.sort(values)
    return not np.any(values[1:] == values[:-1])
