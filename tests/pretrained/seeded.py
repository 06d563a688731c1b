"""Weights, photos and samples that two programs make alike from a seed: NumPy only."""

import zlib

import numpy as np

PHOTO_SIZES = ((120, 160), (170, 110), (90, 250), (133, 133))  # (height, width)
SHORT_SIDE, MAX_SIDE = 200, 320
ROIS = ((0, 0, 60, 80), (30.5, 20.25, 190, 170), (-10, -5, 20, 12), (50, 60, 50.5, 61), (100, 10, 290, 190))

TARGETS = (  # boxes and classes (1, 2) of the first photos
    (((10, 12, 80, 90), (70, 30, 150, 110), (20, 60, 50, 85)), (1, 2, 1)),
    (((5, 20, 60, 150), (40, 40, 100, 100)), (2, 2)),
)
TRAINING = {  # quotas so large that every anchor and every proposal is drawn
    "steps": 10,
    "learning_rate": 5e-6,  # random features are large: larger steps diverge
    "warmup_steps": 4,
    "warmup_factor": 0.1,
    "drop_at": 7,
    "weight_decay": 1e-3,
    "proposals": 60,
    "quota": 6000,
    "short_side": 100,
    "max_side": 160,
}


def learning_rate(step):
    """Of the 0-based step: linear warm-up, then a drop to a tenth."""
    t = TRAINING
    progress = min(step / t["warmup_steps"], 1)
    rate = t["learning_rate"] * (0.1 if step >= t["drop_at"] else 1)
    return rate * (t["warmup_factor"] * (1 - progress) + progress)


def weights(shapes, scales=None):
    """Random weights that keep a deep network's activations in range.

    Args:
        shapes: {torchvision's or Detectron2's name: shape}.
        scales: {beginning of a name: factor}.
    """
    arrays = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            value = np.zeros(shape, np.int64)
        elif name.endswith("running_var"):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            gain = 1 if "fpn" in name else 2
            value = rng.normal(size=shape) * np.sqrt(gain / np.prod(shape[1:]))
        elif name.endswith("weight"):  # a norm's; the last of a block is small, or the sums explode
            last = any(part in name for part in ("bn3", "conv3.norm", "layer1.0.bn2"))
            value = rng.uniform(0.2, 0.4, shape) if last else rng.uniform(0.7, 1.3, shape)
        else:
            value = rng.normal(size=shape) * 0.1
        factor = next((f for start, f in (scales or {}).items() if name.startswith(start)), 1.0)
        arrays[name] = value if value.dtype == np.int64 else (value * factor).astype(np.float32)
    return arrays


def photo(number):
    """A uint8 photo of coloured blocks with noise, of PHOTO_SIZES[number]."""
    height, width = PHOTO_SIZES[number]
    rng = np.random.default_rng(number)
    blocks = rng.integers(0, 200, (height // 12 + 1, width // 12 + 1, 3))
    large = blocks.repeat(12, axis=0).repeat(12, axis=1)[:height, :width]
    return (large + rng.integers(0, 56, (height, width, 3))).astype(np.uint8)


def sample(array, count=60):
    """Values of an array at places that depend on its shape alone, and its largest magnitude."""
    places = np.random.default_rng(array.size).integers(0, array.size, count)
    return np.append(np.ravel(array)[places], np.abs(array).max()).astype(np.float32)
