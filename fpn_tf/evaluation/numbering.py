"""Ground truth and detections as a scorer takes them: numbered anew, without boxes that have no area.

The ids in a file are its own affair. pycocotools takes an annotation of id 0 for "no match", writes
into the dicts that it is given, and some of its versions want more in a file than they need; a scorer
is given copies of what it reads and no more.
"""

from pycocotools import mask as coco_masks

from fpn_tf.data.dataset import clipped_corners, have_area


def numbered_pair(coco, results, image_ids=None, overlap="bbox"):
    """Ground truth and detections of the images to score, as two COCO dicts.

    Images and categories are numbered 1, 2, ... in the order of their ids, by which a scorer ranks
    equal scores; annotations and detections in their own. Boxes `without_area` are left out, and with
    each of them the detections that equal it.

    Args:
        coco: ground truth as a COCO dict; areas may be absent.
        results: an iterable of COCO results, dicts of image_id, category_id, bbox [x, y, w, h], score,
            and for segments a segmentation. Those of other images or categories are left out.
        image_ids: the images to score; None for all.
        overlap: "bbox", or "segm" for segments.

    Returns:
        (ground truth, detections). Every annotation has an `area`, and `iscrowd` as 0 or 1; detections
        have a `score`.
    """
    chosen = {image["id"] for image in coco["images"]}
    chosen = chosen if image_ids is None else chosen & set(image_ids)
    images = [image for image in coco["images"] if image["id"] in chosen]
    image_numbers, category_numbers = _numbers(images), _numbers(coco["categories"])
    left_out = without_area(coco)
    excluded = {_place(a) for a, is_out in zip(coco["annotations"], left_out) if is_out}

    def numbered(entry, number, area, is_crowd):
        return {
            "id": number,
            "image_id": image_numbers[entry["image_id"]],
            "category_id": category_numbers[entry["category_id"]],
            "bbox": entry["bbox"],
            "area": area,
            "iscrowd": is_crowd,
            **({"segmentation": _shape(entry)} if overlap == "segm" else {}),
        }

    annotations = [
        numbered(a, number, _annotated_area(a), int(bool(a.get("iscrowd"))))
        for number, (a, is_out) in enumerate(zip(coco["annotations"], left_out), start=1)
        if not is_out and a["image_id"] in chosen
    ]
    detections = [
        numbered(r, number, _detected_area(r, overlap), 0) | {"score": r["score"]}
        for number, r in enumerate(results, start=1)
        if r["image_id"] in chosen and r["category_id"] in category_numbers and _place(r) not in excluded
    ]
    shared = {
        "images": [_sizes(image) | {"id": image_numbers[image["id"]]} for image in images],
        "categories": [{"id": number, "name": str(number)} for number in category_numbers.values()],
    }
    return shared | {"annotations": annotations}, shared | {"annotations": detections}


def without_area(coco):
    """Which boxes have no area inside their photo: left out of the score, as they are of training.

    Args:
        coco: ground truth as a COCO dict. An image without sizes has no bounds.

    Returns:
        bool [A], of `annotations`.
    """
    return ~have_area(clipped_corners(coco))


def notes_on_boxes(coco, source):
    """Lines that a user should know where ground truth has boxes `without_area`, or none to score by."""
    left_out = without_area(coco)
    count = int(left_out.sum())
    notes = [f"{source}: {count} boxes without area inside their photo are not scored"] if count else []
    if all(is_out or a.get("iscrowd") for a, is_out in zip(coco["annotations"], left_out)):
        notes.append(f"{source}: has no box to score by, crowd regions apart; AP is -1")
    return notes


def _numbers(entries):
    """Entries' ids -> 1, 2, ... in their order."""
    return {key: number for number, key in enumerate(sorted(entry["id"] for entry in entries), start=1)}


def _sizes(image):
    """The sizes that an image has: segments are drawn by them."""
    return {key: image[key] for key in ("width", "height") if image.get(key)}


def _place(entry):
    """An annotation's or a detection's (image id, x, y, width, height)."""
    return entry["image_id"], *entry["bbox"]


def _shape(entry):
    """An entry's segmentation; its box where a crowd region has none."""
    x, y, width, height = entry["bbox"]
    corners = [x, y, x, y + height, x + width, y + height, x + width, y]
    return entry.get("segmentation") or [corners]


def _annotated_area(annotation):
    area = annotation.get("area")
    return annotation["bbox"][2] * annotation["bbox"][3] if area is None else area


def _detected_area(result, overlap):
    if overlap == "segm":
        return float(coco_masks.area(result["segmentation"]))
    return result["bbox"][2] * result["bbox"][3]
