"""Pictures of detections and ground truth, drawn with Pillow."""

import colorsys
import dataclasses

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from fpn_tf import files
from fpn_tf.data import segments
from fpn_tf.labels import MARGIN, fonts, label_text, placed_labels

GAP = 8  # pixels between two pictures side by side
READABLE_SIDE = 480  # pixels: the shorter side that small photos are enlarged to
LONGEST_SIDE = 2048  # pixels: the longer side at which enlarging stops
MARK = ("Software", "fpn_tf")  # an entry of the PNGs
FAULT_COLORS = {  # what a detection is, or "missed" of an object -> (r, g, b)
    "right": (43, 160, 60),
    "classification": (225, 40, 60),
    "localisation": (255, 165, 0),
    "both": (140, 80, 40),
    "duplicate": (0, 170, 210),
    "background": (190, 40, 200),
    "missed": (40, 70, 255),
}


def class_color(number):
    """A colour (r, g, b) for class `number`; neighbours differ."""
    return tuple(round(255 * v) for v in colorsys.hsv_to_rgb(number * 0.381966 % 1, 0.85, 1.0))


def draw_boxes(photo, boxes, labels, colors):
    """A copy of a photo with labelled boxes.

    Args:
        photo: uint8 [H, W, 3].
        boxes: [D, 4] in its pixels, the best first: they are on top.
        labels: D texts of `label_text`, any of them empty.
        colors: D colours (r, g, b).

    Returns:
        PIL.Image of the photo's size.
    """
    image = Image.fromarray(photo)
    pen = ImageDraw.Draw(image)
    line = max(2, min(image.size) // 300)
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    for (x1, y1, x2, y2), color in reversed(list(zip(boxes, colors))):
        pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=color, width=line)
    labelled = [i for i, text in enumerate(labels) if text]
    text_size = max(11, min(image.size) // 45)
    places = placed_labels([labels[i] for i in labelled], boxes[labelled, :2], image.size, text_size)
    for i, label in zip(labelled, places):
        if label is None:
            continue
        left, top, right, bottom = label.box
        is_dark = sum(c * w for c, w in zip(colors[i], (0.3, 0.59, 0.11))) < 140
        pen.rectangle((left, top, right - 1, bottom - 1), fill=colors[i])
        pen.text((left + MARGIN, top), label.text, fill="white" if is_dark else "black", font=label.font)
    return image


def enlarged(photo, boxes):
    """A small photo and its boxes at a size at which labels can be read.

    Args:
        photo: uint8 [H, W, 3].
        boxes: [G, 4] in its pixels.

    Returns:
        (uint8 [H * n, W * n, 3], [G, 4] in its pixels), n whole; 1 for photos that are large enough.
    """
    height, width = photo.shape[:2]
    scale = max(1, min(round(READABLE_SIDE / min(height, width)), LONGEST_SIDE // max(height, width)))
    image = Image.fromarray(photo).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    return np.asarray(image), np.asarray(boxes, float).reshape(-1, 4) * scale


def draw_detections(photo, detections, min_score):
    """A photo with its detections of at least `min_score`, named and scored.

    Args:
        photo: uint8 [H, W, 3].
        detections: `fpn_tf.Detections`.
        min_score: the lowest score that is drawn.

    Returns:
        PIL.Image of the photo's size.
    """
    shown = detections[detections.scores >= min_score]
    labels = [label_text(*about) for about in zip(shown.names, shown.classes.tolist(), shown.scores)]
    places = {category: place for place, category in enumerate(detections.class_names)}
    colors = [class_color(places.get(int(category), int(category))) for category in shown.classes]
    return draw_boxes(photo, shown.boxes, labels, colors)


def side_by_side(left, right, captions):
    """Two pictures in one, each under its caption. Returns: PIL.Image."""
    font = fonts(16)[0]
    bar = 24
    sheet = Image.new("RGB", (left.width + GAP + right.width, bar + max(left.height, right.height)), "white")
    pen = ImageDraw.Draw(sheet)
    for image, x, caption in ((left, 0, captions[0]), (right, left.width + GAP, captions[1])):
        sheet.paste(image, (x, bar))
        pen.text((x + 4, 3), caption, fill="black", font=font)
    return sheet


def draw_comparison(photo, detections, record, min_score=0.5):
    """A picture of detections beside one of the ground truth.

    Args:
        photo: uint8 [H, W, 3].
        detections: `fpn_tf.Detections`.
        record: the photo's `fpn_tf.data.records.Record`.
        min_score: the lowest score that is drawn.

    Returns:
        PIL.Image.
    """
    truth = draw_record(photo, record, detections.class_names)
    large, boxes = enlarged(photo, detections.boxes)
    detected = draw_detections(large, dataclasses.replace(detections, boxes=boxes), min_score)
    return side_by_side(detected, truth, (f"detections (score >= {min_score:g})", "ground truth"))


def draw_segment_comparison(photo, detections, record):
    """A picture of the proposal whose segment covers each object best, beside the ground truth.

    Args:
        photo: uint8 [H, W, 3].
        detections: `fpn_tf.structures.SegmentDetections`.
        record: the photo's `fpn_tf.data.records.Record`, with segmentations.

    Returns:
        PIL.Image.
    """
    size = photo.shape[:2]
    truth = [segments.rasterise(segmentation, size) for segmentation in record.segmentations]
    pairs = zip(detections.regions, detections.segments)
    proposed = [segments.paste(region, segment, size) for region, segment in pairs]
    overlaps = segments.overlaps(proposed, truth)  # [D, G]
    best = overlaps.argmax(axis=0) if len(proposed) else []
    colors = [class_color(i) for i in range(len(truth))]
    shown = [proposed[i] for i in best]
    labels = [f"IoU {overlaps[i, g]:.2f}" for g, i in enumerate(best)]
    left = draw_boxes(*enlarged(overlaid(photo, shown, colors), detections.boxes[best]), labels, colors)
    no_labels = [""] * len(truth)
    right = draw_boxes(*enlarged(overlaid(photo, truth, colors), record.boxes), no_labels, colors)
    return side_by_side(left, right, ("best of the proposals", "ground truth"))


def overlaid(photo, shapes, colors):
    """A copy of a photo [H, W, 3] with masks uint8 [H, W] in colours half over it."""
    photo = photo.copy()
    for shape, color in zip(shapes, colors):
        covered = shape > 0
        photo[covered] = (photo[covered].astype(np.uint16) + np.asarray(color, np.uint16)) // 2
    return photo


def contact_sheet(pictures, columns=4, width=480):
    """Pictures in rows, each scaled to `width` pixels. Returns: PIL.Image."""
    scaled = [p.resize((width, max(1, round(p.height * width / p.width)))) for p in pictures]
    rows = [scaled[i : i + columns] for i in range(0, len(scaled), columns)]
    heights = [max(p.height for p in row) + GAP for row in rows]
    sheet = Image.new("RGB", (min(columns, len(scaled)) * (width + GAP), sum(heights)), "white")
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            sheet.paste(picture, (j * (width + GAP), sum(heights[:i])))
    return sheet


def draw_record(photo, record, class_names):
    """A photo with its ground truth; small photos are enlarged.

    Args:
        photo: uint8 [H, W, 3].
        record: its `fpn_tf.data.records.Record`; it may have further classes than the model.
        class_names: {category id: name}, in the order of classes 1..K.

    Returns:
        PIL.Image.
    """
    names = [label_text(name, number) for number, name in class_names.items()]
    labels = [names[c - 1] if c <= len(names) else "no class of the model" for c in record.classes]
    colors = [class_color(c - 1) for c in record.classes]
    return draw_boxes(*enlarged(photo, record.boxes), labels, colors)


def draw_faults(photo, boxes, kinds, labels, side):
    """A photo of a given size with boxes in the colours of their kinds.

    Args:
        photo: uint8 [H, W, 3].
        boxes: [D, 4] in its pixels, the most important first.
        kinds: D keys of FAULT_COLORS.
        labels: D texts of `label_text`, any of them empty.
        side: the longer side of the picture, pixels.

    Returns:
        PIL.Image.
    """
    height, width = photo.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    scaled = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))
    boxes = np.asarray(boxes, float).reshape(-1, 4) * scale
    return draw_boxes(scaled, boxes, labels, [FAULT_COLORS[kind] for kind in kinds])


def save_picture(image, path):
    """Writes a PNG, whole or not at all, that `is_drawn` knows again."""
    mark = PngInfo()
    mark.add_text(*MARK)
    with files.written_whole(path) as beside:
        image.save(beside, "PNG", pnginfo=mark)


def is_drawn(path):
    """Whether a path is that of a file of `save_picture`, and so may be replaced by another one."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with Image.open(path) as image:
            return image.info.get(MARK[0]) == MARK[1]
    except Exception:  # no picture
        return False
