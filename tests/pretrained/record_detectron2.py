"""Records what Detectron2 defines: python tests/pretrained/record_detectron2.py

Detectron2 has no packages for today's PyTorch, so this is its Faster R-CNN written out in a few
functions, on PyTorch's and torchvision's operators (recorded with 2.12.1 and 0.27.1, on a CPU):
its names, its resize (Pillow, on bytes), BGR pixels, stride in the 1x1, adaptive aligned ROIAlign,
background as the last class. Writes goldens/detectron2_*.npz.
"""

import json
import math
import pathlib

import numpy as np
import seeded
import torch
import torchvision
from PIL import Image
from torch.nn import functional
from torchvision.ops import boxes as box_ops

FOLDER = pathlib.Path(__file__).parent / "goldens"
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
MEAN = torch.tensor([103.53, 116.28, 123.675])[:, None, None]
SPREAD = {"objectness_logits": 2.0, "anchor_deltas": 0.3, "cls_score": 3.0, "bbox_pred": 1.0}
CLAMP = math.log(1000 / 16)


class Net:
    """One kind of Detectron2's detectors.

    Args:
        depth: 50 or 101.
        groups: of the 3x3 convolutions.
        width: their channels in res2.
        num_classes: without background.
    """

    def __init__(self, depth, groups=1, width=64, num_classes=5):
        self.blocks, self.groups, self.width, self.num_classes = DEPTHS[depth], groups, width, num_classes
        self.stride_in_1x1 = groups == 1
        self.std = (
            torch.ones(3, 1, 1) if groups == 1 else torch.tensor([57.375, 57.12, 58.395])[:, None, None]
        )
        self.spreads = {}

    def shapes(self):
        shapes = {}

        def conv(name, inputs, outputs, size, groups=1, norm=True):
            shapes[f"{name}.weight"] = (outputs, inputs // groups, size, size)
            if norm:
                for part in ("weight", "bias", "running_mean", "running_var"):
                    shapes[f"{name}.norm.{part}"] = (outputs,)
            else:
                shapes[f"{name}.bias"] = (outputs,)

        bottom = "backbone.bottom_up"
        conv(f"{bottom}.stem.conv1", 3, 64, 7)
        inputs = 64
        for stage, count in enumerate(self.blocks, start=2):
            width, outputs = self.width * 2 ** (stage - 2), 256 * 2 ** (stage - 2)
            for i in range(count):
                at = f"{bottom}.res{stage}.{i}"
                if i == 0:
                    conv(f"{at}.shortcut", inputs, outputs, 1)
                conv(f"{at}.conv1", inputs, width, 1)
                conv(f"{at}.conv2", width, width, 3, self.groups)
                conv(f"{at}.conv3", width, outputs, 1)
                inputs = outputs
            conv(f"backbone.fpn_lateral{stage}", outputs, 256, 1, norm=False)
            conv(f"backbone.fpn_output{stage}", 256, 256, 3, norm=False)
        head = "proposal_generator.rpn_head"
        conv(f"{head}.conv", 256, 256, 3, norm=False)
        conv(f"{head}.objectness_logits", 256, 3, 1, norm=False)
        conv(f"{head}.anchor_deltas", 256, 12, 1, norm=False)
        for name, inputs, outputs in (
            ("box_head.fc1", 256 * 49, 1024),
            ("box_head.fc2", 1024, 1024),
            ("box_predictor.cls_score", 1024, self.num_classes + 1),
            ("box_predictor.bbox_pred", 1024, 4 * self.num_classes),
        ):
            shapes |= {f"roi_heads.{name}.weight": (outputs, inputs), f"roi_heads.{name}.bias": (outputs,)}
        return shapes

    def load(self, scales):
        arrays = seeded.weights(self.shapes(), scales)
        self.w = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def conv_norm(self, x, name, stride=1, groups=1):
        kernel = self.w[f"{name}.weight"]
        x = functional.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2, 1, groups)
        parts = (self.w[f"{name}.norm.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *parts, eps=1e-5)

    def conv(self, x, name):
        kernel = self.w[f"{name}.weight"]
        return self.seen(name, functional.conv2d(x, kernel, self.w[f"{name}.bias"], 1, kernel.shape[-1] // 2))

    def linear(self, x, name):
        return self.seen(name, functional.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"]))

    def seen(self, name, x):
        self.spreads[name] = max(self.spreads.get(name, 0), x.std().item())
        return x

    def preprocess(self, photo):
        """Photo RGB uint8 -> (padded input, (height, width) inside it)."""
        height, width = photo.shape[:2]
        scale = seeded.SHORT_SIDE / min(height, width)
        sides = (seeded.SHORT_SIDE, scale * width) if height < width else (scale * height, seeded.SHORT_SIDE)
        if max(sides) > seeded.MAX_SIDE:
            sides = tuple(side * seeded.MAX_SIDE / max(sides) for side in sides)
        size = tuple(int(side + 0.5) for side in sides)
        resized = np.asarray(Image.fromarray(photo[..., ::-1].copy()).resize(size[::-1], Image.BILINEAR))
        x = (torch.from_numpy(resized.copy()).permute(2, 0, 1).float() - MEAN) / self.std
        padding = (0, -size[1] % 32, 0, -size[0] % 32)
        return functional.pad(x, padding)[None], size

    def features(self, x):
        x = self.conv_norm(x, "backbone.bottom_up.stem.conv1", 2).relu()
        x = functional.max_pool2d(x, 3, 2, 1)
        maps = {}
        for stage, count in enumerate(self.blocks, start=2):
            for i in range(count):
                at = f"backbone.bottom_up.res{stage}.{i}"
                stride = 2 if i == 0 and stage > 2 else 1
                first, second = (stride, 1) if self.stride_in_1x1 else (1, stride)
                shortcut = self.conv_norm(x, f"{at}.shortcut", stride) if i == 0 else x
                x = self.conv_norm(x, f"{at}.conv1", first).relu()
                x = self.conv_norm(x, f"{at}.conv2", second, self.groups).relu()
                x = (self.conv_norm(x, f"{at}.conv3") + shortcut).relu()
            maps[stage] = x
        top, pyramid = None, {}
        for stage in (5, 4, 3, 2):
            lateral = self.conv(maps[stage], f"backbone.fpn_lateral{stage}")
            top = lateral if top is None else lateral + functional.interpolate(top, scale_factor=2.0)
            pyramid[stage] = self.conv(top, f"backbone.fpn_output{stage}")
        pyramid[6] = functional.max_pool2d(pyramid[5], 1, 2)
        return maps, dict(sorted(pyramid.items()))

    def rpn(self, pyramid):
        head, logits, deltas = "proposal_generator.rpn_head", {}, {}
        for level, x in pyramid.items():
            hidden = self.conv(x, f"{head}.conv").relu()
            logits[level] = nhwc(self.conv(hidden, f"{head}.objectness_logits"))
            deltas[level] = nhwc(self.conv(hidden, f"{head}.anchor_deltas"))
        return logits, deltas

    def proposals(self, logits, deltas, size):
        found = []
        for level in logits:
            score = torch.from_numpy(logits[level]).flatten()
            moves = torch.from_numpy(deltas[level]).reshape(-1, 4)
            score, order = score.sort(descending=True)
            score, order = score[:1000], order[:1000]
            boxes = clip(decode(moves[order], anchors(level, logits[level].shape[1:3])[order]), size)
            full = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
            found.append((boxes[full], score[full], torch.full((int(full.sum()),), level)))
        boxes, score, level = (torch.cat(x) for x in zip(*found))
        return boxes[box_ops.batched_nms(boxes, score, level, 0.7)[:1000]]

    def classify(self, pyramid, boxes):
        side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
        level = torch.floor(4 + torch.log2(side / 224 + 1e-8)).clamp(2, 5).long()
        pooled = torch.zeros(len(boxes), 256, 7, 7)
        for stage in (2, 3, 4, 5):
            rois = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)[level == stage]
            pooled[level == stage] = torchvision.ops.roi_align(
                pyramid[stage], rois, 7, 1 / 2**stage, sampling_ratio=0, aligned=True
            )
        x = self.linear(pooled.flatten(1), "roi_heads.box_head.fc1").relu()
        x = self.linear(x, "roi_heads.box_head.fc2").relu()
        at = "roi_heads.box_predictor"
        return self.linear(x, f"{at}.cls_score"), self.linear(x, f"{at}.bbox_pred")

    def detect(self, photo, threshold):
        x, size = self.preprocess(photo)
        _, pyramid = self.features(x)
        boxes = self.proposals(*self.rpn(pyramid), size)
        logits, deltas = self.classify(pyramid, boxes)
        scores = logits.softmax(dim=1)[:, :-1]
        moves = deltas.reshape(len(boxes), -1, 4) / torch.tensor([10.0, 10, 5, 5])
        boxes = clip(decode(moves.reshape(-1, 4), boxes.repeat_interleave(scores.shape[1], 0)), size)
        scores, classes = scores.flatten(), torch.arange(self.num_classes).repeat(len(logits))
        above = scores > threshold
        boxes, scores, classes = boxes[above], scores[above], classes[above]
        kept = box_ops.batched_nms(boxes, scores, classes, 0.5)[:100]
        scale = torch.tensor([photo.shape[1] / size[1], photo.shape[0] / size[0]] * 2)
        return clip(boxes[kept] * scale, photo.shape[:2]), scores[kept], classes[kept]


def nhwc(x):
    return x.permute(0, 2, 3, 1).numpy()


def anchors(level, cells):
    stride, size = 2**level, 2 ** (level + 3)
    sides = [(size / math.sqrt(ratio), size * math.sqrt(ratio)) for ratio in (0.5, 1.0, 2.0)]
    cell = torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in sides])
    y, x = torch.meshgrid(*(torch.arange(n) * float(stride) for n in cells), indexing="ij")
    return (torch.stack([x, y, x, y], dim=-1)[:, :, None] + cell).reshape(-1, 4)


def decode(deltas, boxes):
    side = boxes[:, 2:] - boxes[:, :2]
    center = boxes[:, :2] + side / 2 + deltas[:, :2] * side
    half = deltas[:, 2:].clamp(max=CLAMP).exp() * side / 2
    return torch.cat([center - half, center + half], dim=1)


def clip(boxes, size):
    limit = torch.tensor([size[1], size[0]] * 2, dtype=torch.float32)
    return torch.minimum(boxes.clamp(min=0), limit)


def record(net):
    scales = {}
    for part, spread in SPREAD.items():
        net.spreads = {}
        net.load(scales)
        net.detect(seeded.photo(0), 0.05)
        [(name, found)] = [(n, s) for n, s in net.spreads.items() if n.endswith(part)]
        scales[name] = spread / found
    net.load(scales)
    golden = {"shapes": json.dumps(net.shapes()), "scales": json.dumps(scales)}
    golden["versions"] = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    x, _ = net.preprocess(seeded.photo(0))
    maps, pyramid = net.features(x)
    logits, deltas = net.rpn(pyramid)
    golden |= {f"c{i}": seeded.sample(nhwc(x)) for i, x in maps.items()}
    golden |= {f"p{i}": seeded.sample(nhwc(x)) for i, x in pyramid.items()}
    golden |= {f"logits{i}": seeded.sample(x) for i, x in logits.items()}
    golden |= {f"deltas{i}": seeded.sample(x) for i, x in deltas.items()}
    scores, boxes = net.classify(pyramid, torch.tensor(seeded.ROIS, dtype=torch.float32))
    golden |= {"scores": scores.numpy(), "boxes": boxes.numpy()}
    for threshold in (0.05, 0.0):
        for number in range(len(seeded.PHOTO_SIZES)):
            for key, value in zip(("boxes", "scores", "labels"), net.detect(seeded.photo(number), threshold)):
                golden[f"{key}_{threshold}_{number}"] = value.numpy()
    return golden


@torch.no_grad()
def main():
    nets = {"r50": Net(50), "x50": Net(50, 32, 128), "x101": Net(101, 32, 256, 80)}
    for name, net in nets.items():
        np.savez_compressed(FOLDER / f"detectron2_{name}.npz", **record(net))


if __name__ == "__main__":
    main()
