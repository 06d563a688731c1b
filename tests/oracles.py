"""Slow, plain NumPy loops that say what the fast code should give."""

import math

import numpy as np


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    overlap = width * height
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def nms(boxes, scores, valid, threshold, limit):
    order = sorted((i for i in range(len(boxes)) if valid[i]), key=lambda i: (-scores[i], i))
    kept = []
    for i in order:
        if len(kept) < limit and all(iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def anchors(height, width, stride, sizes, ratios):
    found = []
    for row in range(height):
        for column in range(width):
            for ratio in ratios:
                for size in sizes:
                    h, w = size * math.sqrt(ratio), size / math.sqrt(ratio)
                    x, y = column * stride, row * stride
                    found.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return np.asarray(found, np.float32).reshape(-1, 4)


def encode(box, anchor, weights):
    w, h = box[2] - box[0], box[3] - box[1]
    aw, ah = anchor[2] - anchor[0], anchor[3] - anchor[1]
    dx = ((box[0] + box[2]) - (anchor[0] + anchor[2])) / 2 / aw
    dy = ((box[1] + box[3]) - (anchor[1] + anchor[3])) / 2 / ah
    return [d * k for d, k in zip((dx, dy, math.log(w / aw), math.log(h / ah)), weights)]


def _bilinear(feature, y, x):
    height, width = feature.shape[:2]
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(feature.shape[2])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    upper = feature[top, left] * (1 - fx) + feature[top, right] * fx
    lower = feature[bottom, left] * (1 - fx) + feature[bottom, right] * fx
    return upper * (1 - fy) + lower * fy


def roi_align(feature, box, stride, bins, sampling_ratio, aligned):
    """One box on one map [H, W, C], as Mask R-CNN describes it."""
    x1, y1, x2, y2 = (v / stride - (0.5 if aligned else 0) for v in box)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1), max(height, 1)
    rows = sampling_ratio or math.ceil(height / bins)  # 0 without area: no samples, mean 0
    columns = sampling_ratio or math.ceil(width / bins)
    out = np.zeros((bins, bins, feature.shape[2]))
    for p in range(bins):
        for q in range(bins):
            for i in range(rows):
                for j in range(columns):
                    y = y1 + (p + (i + 0.5) / rows) * height / bins
                    x = x1 + (q + (j + 0.5) / columns) * width / bins
                    out[p, q] += _bilinear(feature, y, x) / (rows * columns)
    return out


def roi_pool(feature, box, stride, bins):
    """One box on one map [H, W, C], as Fast R-CNN does it."""
    height, width, channels = feature.shape
    x1, y1, x2, y2 = (math.floor(v / stride + 0.5) for v in box)
    h, w = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    out = np.zeros((bins, bins, channels))
    for p in range(bins):
        for q in range(bins):
            rows = range(max(y1 + p * h // bins, 0), min(y1 + math.ceil((p + 1) * h / bins), height))
            columns = range(max(x1 + q * w // bins, 0), min(x1 + math.ceil((q + 1) * w / bins), width))
            cells = [feature[y, x] for y in rows for x in columns]
            out[p, q] = np.max(cells, axis=0) if cells else 0
    return out


def match(boxes, gt_boxes, gt_valid, foreground_iou, background_iou, keep_best):
    real = [g for g in range(len(gt_boxes)) if gt_valid[g]]
    table = np.array([[iou(b, gt_boxes[g]) for g in real] for b in boxes]).reshape(len(boxes), len(real))
    labels, index = [], []
    for row in table:
        best = row.max() if len(real) else 0.0
        labels.append(1 if best >= foreground_iou else 0 if best < background_iou else -1)
        index.append(real[int(row.argmax())] if best > 0 else None)
    if keep_best:
        for column in range(len(real)):
            highest = table[:, column].max()
            for n in range(len(boxes)):
                if highest > 0 and table[n, column] == highest:
                    labels[n] = 1
    return index, labels


def sample(labels, noise, count, fraction):
    def ranked(wanted):
        return sorted((i for i in range(len(labels)) if labels[i] == wanted), key=lambda i: (-noise[i], i))

    foreground = ranked(1)[: int(count * fraction)]
    return foreground, ranked(0)[: count - len(foreground)]
