"""A data set's annotations as NumPy arrays: 60 bytes a box, where a Python object each would take 4,000."""

import dataclasses
import json

import numpy as np


class Texts:
    """A JSON value a row, kept as text in one piece of bytes until it is asked for.

    Args:
        text: bytes of all values.
        lengths: [n] int, bytes of each; 0 for a row without a value.
    """

    def __init__(self, text, lengths):
        self._text, self._ends = text, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    @classmethod
    def of(cls, parts):
        """The Texts of a list of bytes."""
        return cls(b"".join(parts), [len(part) for part in parts])

    def __len__(self):
        return len(self._ends) - 1

    def __contains__(self, row):
        return bool(self._ends[row] < self._ends[row + 1])

    def __getitem__(self, row):
        """The value of a row; None where it has none, or null."""
        return json.loads(self.text(row) or "null")

    def text(self, row):
        """The bytes of a row."""
        return self._text[self._ends[row] : self._ends[row + 1]]


@dataclasses.dataclass(frozen=True, eq=False)
class Columns:
    """Annotations in COCO's sense, well-formed and whole: a row a photo, and a row an annotation (N and A).

    Attributes:
        image_ids: [N] int64, all different.
        file_names: N texts.
        sizes: [N, 2] int32, (height, width) in pixels; 0 where the file does not tell.
        ids: [A] int64, or Python's whole numbers where one is beyond 64 bits.
        images: [A] int32, rows of the photos that the annotations are of.
        categories: [A] int32, rows of `category_entries`.
        boxes: [A, 4] float64, (x, y, width, height) as annotated.
        areas: [A] float64, square pixels.
        crowds: [A] bool.
        category_entries: COCO's dicts of the categories, each with `id` and `name`.
        further: name -> Texts, what else of the annotations was asked for.
    """

    image_ids: np.ndarray
    file_names: list[str]
    sizes: np.ndarray
    ids: np.ndarray
    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowds: np.ndarray
    category_entries: list[dict]
    further: dict[str, Texts] = dataclasses.field(default_factory=dict)

    @property
    def category_ids(self):
        """Ids of `category_entries`, a tuple."""
        return tuple(entry["id"] for entry in self.category_entries)

    def used_ids(self, rows=slice(None)):
        """The set of ids of the categories that annotations have.

        Args:
            rows: index of the annotations that count; all of them.
        """
        return {self.category_ids[row] for row in np.unique(self.categories[rows]).tolist()}

    def image_entries(self):
        """COCO's `images`, a list of dicts."""
        return [
            {"id": image_id, "file_name": name, "height": height, "width": width}
            for image_id, name, (height, width) in zip(
                self.image_ids.tolist(), self.file_names, self.sizes.tolist()
            )
        ]

    def annotation_entries(self, rows):
        """Yields annotations as COCO's dicts.

        Args:
            rows: [n] int, in the order that is wanted.
        """
        category_ids = np.asarray(self.category_ids, np.int64)
        columns = {
            "id": self.ids[rows],
            "image_id": self.image_ids[self.images[rows]],
            "category_id": category_ids[self.categories[rows]],
            "bbox": self.boxes[rows],
            "area": self.areas[rows],
            "iscrowd": self.crowds[rows].astype(int),
        }
        for row, *values in zip(rows.tolist(), *(column.tolist() for column in columns.values())):
            more = {name: texts[row] for name, texts in self.further.items() if row in texts}
            yield dict(zip(columns, values)) | more

    def coco(self, rows):
        """A COCO dict of all photos and categories, and of the annotations in some rows [n]."""
        return {
            "images": self.image_entries(),
            "annotations": list(self.annotation_entries(rows)),
            "categories": self.category_entries,
        }

    def of_images(self, chosen):
        """The Columns of some photos and their annotations.

        Args:
            chosen: bool [N].
        """
        kept, rows = np.flatnonzero(chosen), np.flatnonzero(chosen[self.images])
        new_row = np.cumsum(chosen, dtype=np.int32) - 1
        names = ("ids", "categories", "boxes", "areas", "crowds")
        further = {
            name: Texts.of([texts.text(row) for row in rows.tolist()]) for name, texts in self.further.items()
        }
        return dataclasses.replace(
            self,
            image_ids=self.image_ids[kept],
            file_names=[self.file_names[row] for row in kept.tolist()],
            sizes=self.sizes[kept],
            images=new_row[self.images[rows]],
            further=further,
            **{name: getattr(self, name)[rows] for name in names},
        )


def columns_of(coco, further=()):
    """The Columns of a COCO dict.

    Args:
        coco: a dict with `images`, `annotations`, `categories`, known to be well-formed; areas and
            `iscrowd` may be absent.
        further: names of what else of the annotations to keep.
    """
    images, annotations, categories = (coco[key] for key in ("images", "annotations", "categories"))
    image_row = {image["id"]: row for row, image in enumerate(images)}
    sizes = [(image.get("height") or 0, image.get("width") or 0) for image in images]
    category_row = {category["id"]: row for row, category in enumerate(categories)}
    return Columns(
        image_ids=np.asarray([image["id"] for image in images], np.int64),
        file_names=[image.get("file_name", "") for image in images],
        sizes=np.asarray(sizes, np.int32).reshape(-1, 2),
        ids=whole_numbers([a["id"] for a in annotations]),
        images=np.asarray([image_row[a["image_id"]] for a in annotations], np.int32),
        categories=np.asarray([category_row[a["category_id"]] for a in annotations], np.int32),
        boxes=np.asarray([a["bbox"] for a in annotations], np.float64).reshape(-1, 4),
        areas=np.asarray([a.get("area", a["bbox"][2] * a["bbox"][3]) for a in annotations], np.float64),
        crowds=np.asarray([bool(a.get("iscrowd")) for a in annotations], bool),
        category_entries=categories,
        further={name: Texts.of([_text_of(a, name) for a in annotations]) for name in further},
    )


def whole_numbers(values):
    """A list of whole numbers as int64 [N]; as Python's where one needs more."""
    try:
        return np.asarray(values, np.int64)
    except OverflowError:
        return np.asarray(values, object)


def _text_of(entry, name):
    return json.dumps(entry[name], default=str).encode() if name in entry else b""
