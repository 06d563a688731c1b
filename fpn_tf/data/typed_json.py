"""COCO's JSON read straight into columns; of a file that is wrong or odd it only says that it is.

Which entry is wrong, and what was expected, is told by `fpn_tf.data.coco_folder.check`, which needs a Python
object for every value and so many times the time and memory.
"""

import codecs
import itertools
import re
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct

from fpn_tf.data.columns import Columns, Texts, whole_numbers

PIECE = 2**24  # bytes of JSON that are Python objects at a time
TRIES = 32  # places to end a piece that are tried
BETWEEN = re.compile(rb"\}(\s*,\s*)\{")  # two objects: entries, or parts of one

LARGEST = float(np.finfo(np.float32).max)
Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Pixels = Annotated[int, Meta(gt=0, lt=2**31)]
UNREAD = (msgspec.DecodeError, UnicodeDecodeError, OverflowError, RecursionError)


class OddFileError(Exception):
    """The file is wrong, or right in a way that is not read fast."""


class _File(Struct):
    images: Raw
    annotations: Raw
    categories: Raw


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


def read_columns(text, further=()):
    """The Columns of a COCO file.

    Args:
        text: bytes of the file.
        further: names of what else of the annotations to keep.

    Raises:
        OddFileError: the file has to be read in the slow way.
    """
    try:
        file = msgspec.json.decode(_utf8(text), type=_File)
        categories = msgspec.json.decode(file.categories, type=list[_Category])
        category_ids = np.asarray([category.id for category in categories], np.int64)
        image_ids, file_names, sizes = _images(file.images)
        annotations = _annotations(file.annotations, further)
        columns = Columns(
            image_ids=image_ids,
            file_names=file_names,
            sizes=sizes,
            ids=annotations["ids"],
            images=_rows_of(annotations["image_ids"], image_ids),
            categories=_rows_of(annotations["category_ids"], category_ids),
            boxes=annotations["boxes"],
            areas=annotations["areas"],
            crowds=annotations["crowds"],
            category_entries=msgspec.json.decode(file.categories),
            further=annotations["further"],
        )
    except UNREAD as error:
        raise OddFileError(str(error)) from None
    if not all(map(_all_differ, (category_ids, image_ids, columns.ids))):
        raise OddFileError("an id is used twice")
    return columns


def photo_names(text, count):
    """The names of the first photos of a COCO file, at most `count`; () of a JSON file of another form.

    Raises:
        OddFileError: the file has to be read in the slow way.
    """
    try:
        lists = msgspec.json.decode(_utf8(text), type=dict[str, Raw])
        if not lists.keys() >= set(_File.__struct_fields__):
            return ()
        first = next(_pieces(lists["images"], _Image, 2**12))
    except UNREAD as error:
        raise OddFileError(str(error)) from None
    return tuple(image.file_name for image in first[:count])


def _utf8(text):
    """The text without a byte order mark. Raises: UnicodeDecodeError, where it is not UTF-8."""
    if text.isascii():
        return text
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(text), PIECE):
        decoder.decode(memoryview(text)[start : start + PIECE], final=start + PIECE >= len(text))
    return memoryview(text)[len(codecs.BOM_UTF8) if text.startswith(codecs.BOM_UTF8) else 0 :]


def _pieces(text, entry_type, size):
    """Yields lists of structs that together are the entries of a JSON array.

    A piece begins with an entry, so what can be read as a whole ends with one: whether two objects are
    neighbours or lie within an entry need not be known before.

    Args:
        text: `msgspec.Raw` of the array.
        entry_type: the struct of an entry.
        size: bytes of a piece, about.

    Raises:
        msgspec.DecodeError: it is no array of such entries.
    """
    text, decoder = memoryview(text), msgspec.json.Decoder(list[entry_type])
    start = 1  # behind the bracket
    while len(text) > start + size:
        gaps = itertools.islice(BETWEEN.finditer(text, start + size), TRIES)
        pieces = ((_whole(text[start : gap.start(1)], decoder), gap.end(1)) for gap in gaps)
        entries, start = next((piece for piece in pieces if piece[0] is not None), (None, start))
        if entries is None:
            break
        yield entries
    yield decoder.decode(b"[%b" % text[start:])


def _whole(text, decoder):
    """The entries in a part of an array; None where the part ends within one."""
    try:
        return decoder.decode(b"[%b]" % text)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return None


def _images(text):
    """(ids [N] int64, N file names, sizes [N, 2] int32: (height, width), 0 where absent)."""
    ids, names, sizes = [], [], []
    for images in _pieces(text, _Image, PIECE):
        ids.append(np.asarray([image.id for image in images], np.int64))
        names += [image.file_name for image in images]
        sizes.append(np.asarray([(i.height or 0, i.width or 0) for i in images], np.int32).reshape(-1, 2))
    if not names:
        raise OddFileError("there are no images")
    return np.concatenate(ids), names, np.concatenate(sizes)


def _annotations(text, further):
    """{name: array with a row an annotation}, and {name: Texts} as `further`."""
    if set(further) & set(_Annotation.__struct_fields__):
        raise OddFileError("a field is asked for as it stands in the file")
    entry_type, attributes = _Annotation, {name: f"further_{i}" for i, name in enumerate(further)}
    if further:
        entry_type = msgspec.defstruct(
            "_FurtherAnnotation",
            [(attribute, Raw, Raw(b"")) for attribute in attributes.values()],
            bases=(_Annotation,),
            rename={attribute: name for name, attribute in attributes.items()},
            gc=False,
        )
    parts, texts = [], {name: ([], []) for name in further}
    for entries in _pieces(text, entry_type, PIECE):
        parts.append(_columns_of(entries))
        for name, (joined, lengths) in texts.items():
            values = [getattr(entry, attributes[name]) for entry in entries]
            joined.append(b"".join(values))
            lengths += [len(memoryview(value)) for value in values]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    unnumbered = columns.pop("unnumbered")
    if unnumbered.any():
        free = max(columns["ids"][~unnumbered].tolist(), default=0) + 1
        columns["ids"][unnumbered] = free + np.flatnonzero(unnumbered)
    return columns | {"further": {name: Texts(b"".join(joined), n) for name, (joined, n) in texts.items()}}


def _columns_of(entries):
    """{name: array} of a list of annotations."""
    count = len(entries)
    numbers = itertools.chain.from_iterable(entry.bbox for entry in entries)
    boxes = np.fromiter(numbers, np.float64, 4 * count).reshape(-1, 4)
    areas = [np.nan if entry.area is None else entry.area for entry in entries]
    areas = np.asarray(areas, np.float64)
    return {
        "ids": whole_numbers([entry.id or 0 for entry in entries]),
        "unnumbered": np.asarray([entry.id is None for entry in entries], bool),
        "image_ids": np.asarray([entry.image_id for entry in entries], np.int64),
        "category_ids": np.asarray([entry.category_id for entry in entries], np.int64),
        "boxes": boxes,
        "areas": np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas),
        "crowds": np.asarray([bool(entry.iscrowd) for entry in entries], bool),
    }


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
