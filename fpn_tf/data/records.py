"""The photos of a data set with the boxes to learn from them: a record each, made when it is asked for."""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fpn_tf.data.columns import Texts

NO_FIELDS: Mapping[str, Any] = types.MappingProxyType({})


class Record(NamedTuple):
    """A photo and the boxes to learn from it (no crowd regions, nothing without area)."""

    image_id: int
    name: str  # for messages
    size: tuple[int, int]  # (height, width) in pixels, upright
    boxes: Any  # [G, 4] float32, pixels of the photo
    classes: Any  # [G] int32, 1..K
    segmentations: tuple = ()  # of the boxes, as in COCO's annotations; None for a box without one
    proposals: Any = None  # [P, 4] float32, pixels of the photo, best first; None: the data set has none
    fields: Mapping[str, Any] = NO_FIELDS  # truth field's name -> [G, *shape]


@dataclasses.dataclass(frozen=True, eq=False)
class Records(Sequence):
    """A sequence of Record. Questions about all of them are answered by its arrays (N photos, G boxes).

    Attributes:
        image_ids: [N] int64.
        name_of: index -> the photo's name.
        sizes: [N, 2] int32, (height, width).
        starts: [N + 1] int64; the boxes of photo i are those from starts[i] to starts[i + 1].
        boxes: [G, 4] float32, pixels of the photos.
        classes: [G] int32, 1..K.
        segmentations: Texts of the data set's annotations; None: they were not asked for.
        rows: [G] int, which of those annotations the boxes are; None as above.
        proposals: N arrays [P, 4] float32; None: there are none.
        fields: truth field's name -> [G, *shape].
    """

    image_ids: np.ndarray
    name_of: Callable[[int], str]
    sizes: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    segmentations: Texts | None = None
    rows: np.ndarray | None = None
    proposals: list | None = None
    fields: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self):
        return len(self.image_ids)

    def __getitem__(self, index):
        """The Record of a photo; of a slice the Records of several."""
        if isinstance(index, slice):
            return self.of(np.arange(len(self))[index])
        index = range(len(self))[index]
        boxes = slice(self.starts[index], self.starts[index + 1])
        height, width = self.sizes[index].tolist()
        return Record(
            image_id=int(self.image_ids[index]),
            name=self.name_of(index),
            size=(height, width),
            boxes=self.boxes[boxes],
            classes=self.classes[boxes],
            segmentations=self._segmentations(boxes),
            proposals=None if self.proposals is None else self.proposals[index],
            fields={name: values[boxes] for name, values in self.fields.items()},
        )

    def _segmentations(self, boxes):
        """The segmentations of some boxes, a slice."""
        if self.segmentations is None:
            return ()
        return tuple(self.segmentations[row] for row in self.rows[boxes].tolist())

    @property
    def counts(self):
        """The number of boxes of each photo, [N] int64."""
        return np.diff(self.starts)

    def of(self, indices):
        """The Records of some photos.

        Args:
            indices: [n] int.
        """
        counts = self.counts[indices]
        starts = np.concatenate([[0], np.cumsum(counts)])
        chosen = np.arange(starts[-1]) + np.repeat(self.starts[indices] - starts[:-1], counts)
        return dataclasses.replace(
            self,
            image_ids=self.image_ids[indices],
            name_of=lambda index: self.name_of(int(indices[index])),
            sizes=self.sizes[indices],
            starts=starts,
            boxes=self.boxes[chosen],
            classes=self.classes[chosen],
            rows=None if self.rows is None else self.rows[chosen],
            proposals=None if self.proposals is None else [self.proposals[i] for i in indices],
            fields={name: values[chosen] for name, values in self.fields.items()},
        )


def in_columns(records):
    """A sequence of Record as Records, their segmentations left out."""
    if isinstance(records, Records):
        return records
    counts = [len(record.boxes) for record in records]
    names = records[0].fields if records else ()
    return Records(
        image_ids=np.asarray([record.image_id for record in records], np.int64),
        name_of=lambda index: records[index].name,
        sizes=np.asarray([record.size for record in records], np.int32).reshape(-1, 2),
        starts=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(record.boxes for record in records)]),
        classes=np.concatenate([np.zeros(0, np.int32), *(record.classes for record in records)]),
        proposals=None if not records or records[0].proposals is None else [r.proposals for r in records],
        fields={name: np.concatenate([record.fields[name] for record in records]) for name in names},
    )


def distinct_sizes(sizes):
    """The sizes that occur, and which of them each photo has.

    Args:
        sizes: [N, 2] int, (height, width).

    Returns:
        (list of (height, width), [N] int).
    """
    keys = sizes[:, 0].astype(np.int64) << 32 | sizes[:, 1]
    keys, which = np.unique(keys, return_inverse=True)
    return [(key >> 32, key & 0xFFFFFFFF) for key in keys.tolist()], which
