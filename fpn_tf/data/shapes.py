"""`shapes` and `octaves`: generated detection sets, as TFDS builders with COCO's features and masks.

Five classes that differ by outline alone: fill, size and rotation are random, backgrounds are
textured, unlabelled scribbles and blobs distract, objects overlap, a few images hold none. Every
image is a pure function of (scene, split, index), so that a set is the same everywhere.

`shapes` is for a first run: small images, few objects. `octaves` is for comparing necks: as
many objects in each of five octaves of size, 6 to 190 pixels, and clutter.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw
from pycocotools import mask as coco_masks

CLASSES = ("circle", "square", "triangle", "cross", "crescent")
SIZES = ((128, 160), (160, 128))  # (height, width): landscape and portrait
SPLITS = {"train": 1800, "validation": 200}
SMALLEST, LARGEST = 8, 124  # pixels, longer side of an object's box
OVERSAMPLING = 4  # outlines are drawn larger and averaged down


class Scene(NamedTuple):
    """The settings by which a set's images are drawn."""

    sizes: tuple  # (height, width) of the images
    distractors: tuple  # fewest, most
    empty: float  # share of images without objects
    draw_sides: object  # generator -> longer sides of the objects that are tried, in pixels


def _few(draw):
    """1 to 6 sides, small ones more often, and sometimes one that fills the image."""
    count = draw.integers(1, 7)
    sides = SMALLEST + (LARGEST - SMALLEST) * draw.uniform(0, 1, count) ** 1.5
    if draw.random() < 0.25:
        sides[0] = draw.uniform(0.9 * LARGEST, LARGEST)
    return sides


def _octaves(draw):
    """5 to 14 sides, their logarithms uniform over five octaves."""
    return 190 / 2 ** draw.uniform(0, 5, draw.integers(5, 15))


SHAPES = Scene(SIZES, (0, 3), 0.04, _few)
OCTAVES = Scene(((192, 256), (256, 192)), (4, 12), 0.02, _octaves)


class Shapes(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of `shapes`."""

    VERSION = tfds.core.Version("1.1.0")
    SCENE = SHAPES

    def _info(self):
        return self.dataset_info_from_configs(
            description="Generated images of five shapes on textured backgrounds.",
            # A mask is COCO's compressed run-length code.
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "image/filename": tfds.features.Text(),
                    "image/id": np.int64,
                    "objects": tfds.features.Sequence(
                        {
                            "area": np.int64,
                            "bbox": tfds.features.BBoxFeature(),
                            "id": np.int64,
                            "is_crowd": np.bool_,
                            "label": tfds.features.ClassLabel(names=CLASSES),
                            "mask": tfds.features.Text(),
                        }
                    ),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split):
        first_id = 1 + sum(count for name, count in SPLITS.items() if name < split)
        for index in range(SPLITS[split]):
            image, objects, masks = draw_example(split, index, self.SCENE)
            height, width = image.shape[:2]
            image_id = first_id + index
            yield (
                index,
                {
                    "image": image,
                    "image/filename": f"{image_id:06d}.jpg",
                    "image/id": image_id,
                    "objects": [
                        {
                            "area": area,
                            "bbox": tfds.features.BBox(
                                ymin=y1 / height, xmin=x1 / width, ymax=y2 / height, xmax=x2 / width
                            ),
                            "id": image_id * 100 + number,
                            "is_crowd": False,
                            "label": label,
                            "mask": coco_masks.encode(np.asfortranarray(mask))["counts"].decode(),
                        }
                        for number, ((label, (x1, y1, x2, y2), area), mask) in enumerate(zip(objects, masks))
                    ],
                },
            )


class Octaves(Shapes):
    """TFDS builder of `octaves`."""

    SCENE = OCTAVES


def draw_example(split, index, scene=SHAPES):
    """One image and its objects.

    Args:
        split: "train" or "validation".
        index: number within the split.
        scene: Scene.

    Returns:
        (uint8 [H, W, 3], list of (label 0..4, (x1, y1, x2, y2) whole pixels of the visible part,
        visible area in pixels), list of their visible parts as uint8 [H, W]).
    """
    draw = np.random.default_rng([sorted(SPLITS).index(split), index])
    size = scene.sizes[draw.integers(len(scene.sizes))]
    image = _texture(draw, size)
    for _ in range(draw.integers(scene.distractors[0], scene.distractors[1] + 1)):
        _scribble(draw, image)
    sides = np.zeros(0) if draw.random() < scene.empty else scene.draw_sides(draw)
    owner = np.zeros(size, np.int32)  # the number of the object that a pixel shows, 0 for none
    labels, areas = [], [0]
    for side in np.sort(sides)[::-1]:  # large ones first: what is drawn later lies on top
        for _ in range(10):  # tries to find a place that hides too little of the others
            label = int(draw.integers(len(CLASSES)))
            mask, place = _place(draw, _outline(draw, label, side), size)
            trial = owner.copy()
            trial[place][mask >= 0.5] = len(labels) + 1
            visible = np.bincount(trial.ravel(), minlength=len(labels) + 2)
            if np.all(visible[1:-1] >= 0.6 * np.asarray(areas[1:])):
                owner = trial
                labels.append(label)
                areas.append(visible[-1])
                _paint(draw, image[place], mask)
                break
    image += draw.standard_normal(image.shape, np.float32) * np.float32(draw.uniform(1, 8))
    masks = [(owner == number).astype(np.uint8) for number in range(1, len(labels) + 1)]
    objects = [(label, *_extent(mask)) for label, mask in zip(labels, masks)]
    return np.clip(image, 0, 255).astype(np.uint8), objects, masks


def _extent(mask):
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return box, int(mask.sum())


def _texture(draw, size):
    """A background: smooth noise at two scales, sometimes stripes. float32 [H, W, 3]."""
    height, width = size
    image = np.zeros((height, width, 3), np.float32) + draw.uniform(70, 185, 3).astype(np.float32)
    for cells, strength in ((3, 45), (24, 22)):
        coarse = draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image += (np.asarray(smooth, np.float32) - 128) * np.float32(strength / 64)
    if draw.random() < 0.4:
        image += _stripes(draw, size)[..., None] * draw.uniform(-30, 30, 3).astype(np.float32)
    return image


def _stripes(draw, size):
    """Waves in a random direction, -1..1, float32 [H, W]."""
    angle, period = draw.uniform(0, np.pi), draw.uniform(4, 24)
    x, y = (np.arange(side, dtype=np.float32) * np.float32(2 * np.pi / period) for side in size[::-1])
    return np.sin(x * np.float32(np.cos(angle)) + (y * np.float32(np.sin(angle)))[:, None])


def _scribble(draw, image):
    """Draws a distractor into `image`: a bent line or a ragged blob."""
    height, width = image.shape[:2]
    layer = Image.new("L", (width, height))
    pen = ImageDraw.Draw(layer)
    center = draw.uniform([0, 0], [width, height])
    if draw.random() < 0.6:
        points = center + np.cumsum(draw.normal(0, 18, (5, 2)), axis=0)
        pen.line([tuple(p) for p in points], fill=255, width=int(draw.integers(1, 4)), joint="curve")
    else:
        angles = np.sort(draw.uniform(0, 2 * np.pi, 11))
        radii = draw.uniform(0.3, 1, 11) * draw.uniform(6, 26)
        points = center + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
        pen.polygon([tuple(p) for p in points], fill=255)
    left, top, right, bottom = layer.getbbox() or (0, 0, 0, 0)
    mask = np.asarray(layer, np.float32)[top:bottom, left:right, None] / 255
    _blend(image[top:bottom, left:right], draw.uniform(0, 255, 3), mask * np.float32(draw.uniform(0.4, 1)))


def _blend(image, color, mask):
    """Paints `color` over `image` in place, in the measure of `mask`."""
    image += (np.asarray(color, np.float32) - image) * mask


@functools.cache
def _corners(label):
    """Corners of a class's outline inside the unit circle, [n, 2]."""

    def polar(angles, radii):
        return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.asarray(radii)[:, None]

    name = CLASSES[label]
    if name == "circle":
        return polar(np.linspace(0, 2 * np.pi, 48, endpoint=False), np.ones(48))
    if name == "square":
        return polar((np.arange(4) + 0.5) * np.pi / 2, np.ones(4))
    if name == "triangle":
        return polar((np.arange(3) - 0.75) * 2 * np.pi / 3, np.ones(3))
    if name == "cross":
        a, b = 0.95, 0.32
        arm = [
            (a, -b),
            (a, b),
            (b, b),
            (b, a),
            (-b, a),
            (-b, b),
            (-a, b),
            (-a, -b),
            (-b, -b),
            (-b, -a),
            (b, -a),
            (b, -b),
        ]
        return np.asarray(arm)
    outer = polar(np.linspace(0.9, 2 * np.pi - 0.9, 40), np.ones(40))
    inner = np.array([0.45, 0]) + polar(np.linspace(2 * np.pi - 1.45, 1.45, 40), np.full(40, 0.79))
    return np.concatenate([outer, inner])


def _outline(draw, label, side):
    """A class's mask, rotated and a little squeezed, its box's longer side about `side` pixels."""
    angle, squeeze = draw.uniform(-0.3, 0.3), draw.uniform(0.8, 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (_corners(label) * [1, squeeze]) @ turn.T
    points -= points.min(axis=0)
    points *= side / points.max()
    width, height = np.ceil(points.max(axis=0)).astype(int) + 1
    layer = Image.new("L", (int(width) * OVERSAMPLING, int(height) * OVERSAMPLING))
    ImageDraw.Draw(layer).polygon([tuple(p) for p in points * OVERSAMPLING], fill=255)
    return np.asarray(layer.reduce(OVERSAMPLING), np.float32) / 255


def _place(draw, outline, size):
    """The outline, cut to `size`, and the slices of a random place inside an image of that size."""
    outline = outline[: size[0], : size[1]]
    height, width = outline.shape
    top = int(draw.integers(0, size[0] - height + 1))
    left = int(draw.integers(0, size[1] - width + 1))
    return outline, (slice(top, top + height), slice(left, left + width))


def _paint(draw, patch, mask):
    """Fills `mask` in `patch`, in place, with a colour unlike the one it covers, sometimes striped."""
    covered = (patch * mask[..., None]).sum(axis=(0, 1)) / mask.sum()
    colors = draw.uniform(0, 255, (8, 3))
    color = colors[np.argmax(np.abs(colors - covered).sum(axis=1) > 160)]
    if draw.random() < 0.35:
        color = color + _stripes(draw, mask.shape)[..., None] * draw.uniform(-45, 45, 3)
    _blend(patch, color, mask[..., None])
