"""A training set in numbers of a few bytes a photo, by which a run that goes on sees what has changed."""

import concurrent.futures
import dataclasses
import hashlib
import marshal
import os
from typing import NamedTuple

import numpy as np

from fpn_tf.data.digest import annotations_digest
from fpn_tf.data.hashes import mixed
from fpn_tf.data.records import in_columns
from fpn_tf.errors import PhotoError

SAMPLE = 64  # photos whose contents are read; in a smaller set all of them
READERS = 16  # threads; the system's answers about files are waited for
SHOWN = 3  # ids that a message names
GONE = -1  # the size of a photo that is no file of its own


class Snapshot(NamedTuple):
    """A data set at the time when it was trained on: N photos in their order, S of them looked into.

    Hashes are uint64 and tell equal from different, no more.
    """

    digest: str  # `annotations_digest`
    image_ids: np.ndarray  # [N] int64
    box_counts: np.ndarray  # [N] int64
    annotations: np.ndarray  # [N] hashes of size, boxes, classes, and of whatever else is trained on
    names: np.ndarray  # [N] hashes of the files' names without their folders
    file_sizes: np.ndarray  # [N] int64, bytes; GONE: no file
    file_times: np.ndarray  # [N] int64, nanoseconds; GONE: no file
    sample_ids: np.ndarray  # [S] int64
    sample_contents: np.ndarray  # [S] hashes of the photos' bytes

    def arrays(self):
        """{name: array}, of which `read_snapshot` makes it again."""
        return {name: np.asarray(value) for name, value in self._asdict().items()}

    def summary(self):
        """The digest and the numbers of photos and boxes, as a dict of JSON values."""
        return {
            "annotations": self.digest,
            "photos": len(self.image_ids),
            "boxes": int(self.box_counts.sum()),
        }


def snapshot_of(dataset, has_segments=False):
    """The Snapshot of a Dataset; reads `SAMPLE` photos, and the size and time of every file.

    Args:
        dataset: Dataset.
        has_segments: whether the annotations' segmentations are trained on.
    """
    records = in_columns(dataset.records)
    names = [records.name_of(index) for index in range(len(records))]
    image_ids = records.image_ids.astype("<i8")
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        chunks = [names[i : i + 1000] for i in range(0, len(names), 1000)]
        stamps = np.asarray([s for part in pool.map(_stamps, chunks) for s in part], np.int64).reshape(-1, 2)
        sample = np.argsort(mixed(image_ids.astype(np.uint64)), kind="stable")[:SAMPLE]
        contents = list(pool.map(lambda index: _content(dataset, int(index)), sample))
    return Snapshot(
        digest=annotations_digest(dataclasses.replace(dataset, records=records)),
        image_ids=image_ids,
        box_counts=records.counts.astype("<i8"),
        annotations=_annotation_hashes(dataset, records, has_segments),
        names=np.asarray([_hash(os.path.basename(name).encode(errors="replace")) for name in names], "<u8"),
        file_sizes=stamps[:, 0],
        file_times=stamps[:, 1],
        sample_ids=image_ids[sample],
        sample_contents=np.asarray(contents, "<u8"),
    )


def read_snapshot(path):
    """The Snapshot in an `.npz`; None where it is absent or holds none."""
    try:
        with np.load(path) as arrays:
            values = {name: arrays[name] for name in Snapshot._fields}
    except (OSError, ValueError, KeyError, EOFError):
        return None
    return Snapshot(**values | {"digest": str(values["digest"])})


def changes_between(old, new):
    """What is different about a data set, in words: a list of texts, empty where nothing is.

    Photos are the same ones by their ids, or by the names of their files where more of them are. A file
    that was written anew counts as changed unless the contents agree of those that both Snapshots have
    looked into: a copy of a set is no change.

    Args:
        old: Snapshot.
        new: Snapshot, of the same set later.
    """
    if all(np.array_equal(*each) for each in zip(old, new)):  # at once, also for a large set
        return []
    old_keys, new_keys, in_old, in_new = _matched(old, new)
    gone = old.image_ids[~np.isin(old_keys, new_keys)]
    added = new.image_ids[~np.isin(new_keys, old_keys)]
    moved = _moved(old_keys[np.sort(in_old)], new_keys[np.sort(in_new)])
    relabelled = np.sort(in_new[old.annotations[in_old] != new.annotations[in_new]])
    texts = [
        _counted(added, "new"),
        _counted(gone, "gone"),
        _counted(new.image_ids[np.isin(new_keys, moved)], "in another place of the order"),
        _counted(new.image_ids[relabelled], "with other annotations"),
        *_file_changes(old, new, in_old, in_new),
    ]
    boxes = [int(snapshot.box_counts.sum()) for snapshot in (old, new)]
    if boxes[0] != boxes[1]:
        texts.append(f"boxes: {boxes[0]} -> {boxes[1]}")
    texts = [text for text in texts if text]
    if not texts and old.digest != new.digest:
        texts.append("classes or crowd regions")
    return texts


def change_note(old, new, step):
    """A line for the user where a set is not what it was at a checkpoint of `step`; "" where it is.

    Args:
        old: Snapshot of the checkpoint, or None where it has none.
        new: Snapshot.
        step: int.
    """
    if old is None:
        return (
            f"the checkpoint of step {step} does not say what it was trained on: nobody knows whether the "
            "training data has changed since"
        )
    changes = changes_between(old, new)
    return f"the training data has changed since step {step}: {'; '.join(changes)}" if changes else ""


def _annotation_hashes(dataset, records, has_segments):
    """Hashes [N] of all that is trained on of each photo of a Dataset, which `records` are in columns."""
    sizes = records.sizes.astype("<u8")
    sums = _sums_by_photo(records.boxes, records.classes, records.counts)
    hashes = mixed(sizes[:, 0] ^ mixed(sizes[:, 1] ^ mixed(sums)))
    if has_segments or dataset.has_proposals or dataset.truth_fields:
        further = [_hash(_further(record, has_segments)) for record in dataset.records]
        hashes = mixed(hashes ^ np.asarray(further, "<u8"))
    return hashes


def _sums_by_photo(boxes, classes, counts):
    """Hashes [N] of the boxes [M, 4] float32 and classes [M] of photos that have `counts` [N] of them.

    The sum of a hash for each box, which its place among those of its photo enters.
    """
    ends = np.cumsum(counts)
    places = np.arange(len(boxes)) - np.repeat(ends - counts, counts)
    corners = np.ascontiguousarray(boxes, "<f4").view("<u8").reshape(-1, 2)
    hashes = mixed(places.astype(np.uint64) ^ mixed(classes.astype(np.uint64)))
    hashes = mixed(corners[:, 1] ^ mixed(corners[:, 0] ^ hashes))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes, dtype=np.uint64)])
    return sums[ends] - sums[ends - counts]


def _further(record, has_segments):
    """The bytes of what a Record has besides boxes and classes."""
    parts = [np.ascontiguousarray(values).tobytes() for _, values in sorted(record.fields.items())]
    if record.proposals is not None:
        parts.append(np.ascontiguousarray(record.proposals).tobytes())
    if has_segments:
        parts.append(marshal.dumps(record.segmentations, 2))  # whose bytes depend on nothing but the value
    return b"".join(parts)


def _hash(data):
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _stamps(paths):
    """(bytes, time of change in nanoseconds) of every file, GONE for both where it is none."""
    stamps = []
    for path in paths:
        try:
            status = os.stat(path)
            stamps.append((status.st_size, status.st_mtime_ns))
        except (OSError, ValueError):
            stamps.append((GONE, GONE))
    return stamps


def _content(dataset, index):
    try:
        return _hash(dataset.read_bytes(index))
    except (PhotoError, OSError):
        return 0


def _matched(old, new):
    """Which photos of two Snapshots are the same ones.

    Returns:
        (what those of the old one are known by, [N]; those of the new one, [M]; indices of the shared ones
        into the old one, [S]; into the new one, [S]).
    """
    is_same = [np.array_equal(*each) for each in ((old.image_ids, new.image_ids), (old.names, new.names))]
    if all(is_same):  # as nearly always; and a large set is not sorted
        everywhere = np.arange(len(old.image_ids))
        return old.image_ids, new.image_ids, everywhere, everywhere
    keys = _keys(old, new)
    return *keys, *np.intersect1d(*keys, return_indices=True)[1:]


def _keys(old, new):
    """What the photos of two Snapshots are known by, two arrays without repetition: ids or names."""
    names = old.names, new.names
    are_unique = all(len(np.unique(each)) == len(each) for each in names)
    same_ids = len(np.intersect1d(old.image_ids, new.image_ids))
    return names if are_unique and len(np.intersect1d(*names)) >= same_ids else (old.image_ids, new.image_ids)


def _moved(old_keys, new_keys):
    """The keys that stand elsewhere in another order of the same keys."""
    return new_keys[old_keys != new_keys]


def _file_changes(old, new, in_old, in_new):
    """Texts about the files of the photos that two Snapshots share: indices into one and the other."""
    old_ids, ids, sizes = old.image_ids[in_old], new.image_ids[in_new], new.file_sizes[in_new]
    other_size = old.file_sizes[in_old] != sizes
    rewritten = (old.file_times[in_old] != new.file_times[in_new]) | (old.names[in_old] != new.names[in_new])
    rewritten |= sizes == GONE  # what is no file has no time
    is_sampled = np.isin(old_ids, old.sample_ids) & np.isin(ids, new.sample_ids)
    old_contents = dict(zip(old.sample_ids.tolist(), old.sample_contents.tolist()))
    new_contents = dict(zip(new.sample_ids.tolist(), new.sample_contents.tolist()))
    differs = other_size.copy()
    for i in np.flatnonzero(is_sampled & rewritten):
        differs[i] |= old_contents[int(old_ids[i])] != new_contents[int(ids[i])]
    texts = [_counted(np.sort(ids[differs]), "with another file")]
    doubtful = rewritten & ~other_size & (sizes != GONE)
    if not (doubtful & is_sampled).any():
        texts.append(_counted(np.sort(ids[doubtful]), "written anew, perhaps with other contents"))
    return texts


def _counted(ids, what):
    """`2 photos with other annotations (ids 7, 8)`; "" where there are none."""
    if not len(ids):
        return ""
    shown = ", ".join(map(str, ids[:SHOWN].tolist())) + (", ..." if len(ids) > SHOWN else "")
    return f"{len(ids)} photo{'s' * (len(ids) > 1)} {what} (id{'s' * (len(ids) > 1)} {shown})"
