"""Pascal VOC's folders: an XML file a photo. Objects marked as difficult count as crowd regions.

Corners are taken as they are, as labelling programs write them; of Pascal's own data sets, whose corners
count pixels from 1, one is subtracted from the first two.
"""

import pathlib
from xml.etree import ElementTree

from fpn_tf.data.formats.parts import (
    PhotoSet,
    annotation_entry,
    categories_of,
    class_list,
    image_entry,
    part_of,
    photo_named,
    raise_for,
)
from fpn_tf.errors import DataError

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def find(folder):
    """{"train", "val", "test" or "all": PhotoSet} of a folder; {} where it has no XML files."""
    annotations = next((folder / n for n in ("Annotations", "annotations") if (folder / n).is_dir()), folder)
    files = sorted(annotations.rglob("*.xml"))
    if not files:
        return {}
    images = next((folder / n for n in ("JPEGImages", "images") if (folder / n).is_dir()), folder)
    lists = {part_of(path.stem): path for path in _lists(folder)}
    if "train" in lists:
        stems = {file.stem: str(file) for file in files}
        parts = {part: _stems(path) for part, path in lists.items() if part}
        raise_for(
            [
                f"{lists[p]}: {s}: no such file as {annotations / s}.xml"
                for p in parts
                for s in parts[p]
                if s not in stems
            ]
        )
        return {p: PhotoSet(annotations, images, tuple(stems[s] for s in parts[p])) for p in parts}
    by_part = {}
    for file in files:
        part = next(filter(None, map(part_of, file.relative_to(folder).parts[:-1])), "all")
        by_part.setdefault(part, []).append(str(file))
    return {part: PhotoSet(annotations, images, tuple(names)) for part, names in by_part.items()}


def read(photo_set, class_names=()):
    """A PhotoSet's ground truth as a COCO dict.

    Args:
        photo_set: of `find`.
        class_names: in the order that is wanted; (): that of a list of classes beside them,
            or of the alphabet.

    Raises:
        DataError: a file or an entry that is not as it should be, in one line.
    """
    images, objects, mistakes = [], [], []
    for number, file in enumerate(map(pathlib.Path, photo_set.names), start=1):
        root = _parsed(file)
        name = root.findtext("filename") or file.stem
        photo = photo_named(photo_set.images, name) or photo_named(file.parent, name)
        photo = photo or photo_named(photo_set.images, file.stem) or photo_named(file.parent, file.stem)
        if photo is None:
            mistakes.append(f"{file}: filename = {name}: no such photo in {photo_set.images}")
            continue
        image = image_entry(number, photo, photo_set.images)
        images.append(image)
        first = 1.0 if is_of_pascal(root) else 0.0
        for i, entry in enumerate(root.iter("object")):
            try:
                x1, y1, x2, y2 = (float(entry.findtext(f"bndbox/{corner}")) for corner in CORNERS)
                objects.append(
                    (
                        image,
                        entry.findtext("name").strip(),
                        (x1 - first, y1 - first, x2, y2),
                        int(entry.findtext("difficult") or 0),
                    )
                )
            except (TypeError, ValueError, AttributeError):
                mistakes.append(
                    f"{file}: object {i + 1}: expected a name and a bndbox of {', '.join(CORNERS)}"
                )
    raise_for(mistakes)
    ordered = class_names or class_list(photo_set.annotations) or class_list(photo_set.annotations.parent)
    categories, id_of = categories_of((name for _, name, _, _ in objects), ordered)
    annotations = [
        annotation_entry(i, image, id_of[name], corners, iscrowd=int(bool(difficult)))
        for i, (image, name, corners, difficult) in enumerate(objects, start=1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def is_of_pascal(root):
    """Whether a file is of Pascal's own data sets."""
    database = root.findtext("source/database") or ""
    return "VOC" in database or "PASCAL" in database.upper()


def _lists(folder):
    return sorted((folder / "ImageSets" / "Main").glob("*.txt"))


def _stems(path):
    """The first word of every line of a list of photos."""
    return [line.split()[0] for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _parsed(file):
    """The root of an XML file. Raises: DataError."""
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError, LookupError, ValueError) as error:
        raise DataError(f"{file}: not valid XML ({error})") from None
    if root.tag != "annotation":
        raise DataError(f"{file}: <{root.tag}>: expected <annotation>, as in Pascal VOC")
    return root
