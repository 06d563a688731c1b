"""Records what torchvision computes: python tests/pretrained/record_torchvision.py

Needs torch and torchvision (recorded with 2.12.1 and 0.27.1, on a CPU). Writes to goldens/:
tensors*.pth, small files in PyTorch's two formats, and torchvision_*.npz: the names and shapes of
a state dict, factors that keep its random weights' scores in range, samples of every stage's
output, and detections.
"""

import functools
import json
import pathlib

import numpy as np
import seeded
import torch
import torchvision
from torchvision.models import detection
from torchvision.models.detection import backbone_utils, rpn
from torchvision.ops import boxes as box_ops

FOLDER = pathlib.Path(__file__).parent / "goldens"
SIZES = {"min_size": seeded.SHORT_SIDE, "max_size": seeded.MAX_SIDE}
SPREAD = {  # standard deviations that the outputs of the last layers are brought to
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.3,
    "roi_heads.box_predictor.cls_score": 3.0,
    "roi_heads.box_predictor.bbox_pred": 1.0,
}


def models():
    """{golden's name: a function that makes the detector}."""
    bare = {"weights": None, "weights_backbone": None}
    resnet18 = backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    return {
        "v1": functools.partial(detection.fasterrcnn_resnet50_fpn, **bare, **SIZES),
        "v2": functools.partial(detection.fasterrcnn_resnet50_fpn_v2, **bare, num_classes=4, **SIZES),
        "resnet18": functools.partial(detection.FasterRCNN, resnet18, num_classes=3, **SIZES),
    }


def tensor(photo):
    return torch.from_numpy(photo).permute(2, 0, 1) / 255


def load(model, scales):
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    arrays = seeded.weights(shapes, scales)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return shapes


def calibrate(model):
    """Factors for the last layers, found one after the other on the first photo."""
    scales = {}
    for name, spread in SPREAD.items():
        load(model, scales)
        scales[name] = spread / widest_output(model, name)
    return scales


def widest_output(model, name):
    """The largest standard deviation that a module puts out on the first photo."""
    seen = []
    handle = model.get_submodule(name).register_forward_hook(lambda *a: seen.append(a[2].std().item()))
    model([tensor(seeded.photo(0))])
    handle.remove()
    return max(seen)


def record_model(make):
    model = make(box_score_thresh=0.05).eval()
    scales = calibrate(model)
    shapes = load(model, scales)
    golden = {"shapes": json.dumps(shapes), "scales": json.dumps(scales), "versions": versions()}

    images, _ = model.transform([tensor(seeded.photo(0))])
    body = model.backbone.body(images.tensors)
    pyramid = model.backbone.fpn(body)
    logits, deltas = model.rpn.head(list(pyramid.values()))
    golden |= {f"c{i}": seeded.sample(nhwc(x)) for i, x in enumerate(body.values(), 2)}
    golden |= {f"p{i}": seeded.sample(nhwc(x)) for i, x in enumerate(pyramid.values(), 2)}
    golden |= {f"logits{i}": seeded.sample(nhwc(x)) for i, x in enumerate(logits, 2)}
    golden |= {f"deltas{i}": seeded.sample(nhwc(x)) for i, x in enumerate(deltas, 2)}
    rois = torch.tensor(seeded.ROIS, dtype=torch.float32)
    pooled = model.roi_heads.box_roi_pool(pyramid, [rois], images.image_sizes)
    scores, boxes = model.roi_heads.box_predictor(model.roi_heads.box_head(pooled))
    golden |= {"scores": scores.numpy(), "boxes": boxes.numpy()}

    for threshold in (0.05, 0.0):
        model.roi_heads.score_thresh = threshold
        for number in range(len(seeded.PHOTO_SIZES)):
            [found] = model([tensor(seeded.photo(number))])
            for key, value in found.items():
                golden[f"{key}_{threshold}_{number}"] = value.numpy()
    return golden


def record_training():
    """Losses of ten steps on two photos in turn, and samples of the weights after them."""
    settings = seeded.TRAINING
    backbone = backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=3)
    model = detection.FasterRCNN(
        backbone,
        num_classes=3,
        rpn_pre_nms_top_n_train=300,
        rpn_post_nms_top_n_train=settings["proposals"],
        rpn_batch_size_per_image=settings["quota"],
        box_batch_size_per_image=settings["quota"],
        min_size=settings["short_side"],
        max_size=settings["max_side"],
    ).eval()
    scales = calibrate(model)
    load(model, scales)
    model.train()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    kernels = [p for p in trained.values() if p.ndim > 1]
    others = [p for p in trained.values() if p.ndim == 1]
    groups = [{"params": kernels, "weight_decay": settings["weight_decay"]}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    history = []
    for step in range(settings["steps"]):
        boxes, classes = seeded.TARGETS[step % 2]
        target = {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(classes)}
        with torch.enable_grad():
            losses = model([tensor(seeded.photo(step % 2))], [target])
            optimizer.zero_grad()
            sum(losses.values()).backward()
        for group in optimizer.param_groups:
            group["lr"] = seeded.learning_rate(step)
        optimizer.step()
        names = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
        history.append([losses[name].item() for name in names])
    golden = {f"after {name}": seeded.sample(p.detach().numpy(), 20) for name, p in trained.items()}
    golden |= {"losses": np.array(history), "scales": json.dumps(scales), "versions": versions()}
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return golden | {"shapes": json.dumps(shapes)}


def nhwc(x):
    return x.permute(0, 2, 3, 1).numpy()


def record_geometry():
    rng = np.random.default_rng(0)
    golden = {"versions": versions()}
    generator = rpn.AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    for height, width in ((224, 320), (96, 416), (800, 1088)):
        maps = [torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in (4, 8, 16, 32, 64)]
        image_list = detection.image_list.ImageList(torch.zeros(1, 3, height, width), [(height, width)])
        [anchors] = generator(image_list, maps)
        golden[f"anchors_{height}_{width}"] = anchors.numpy()[:: 53 if height < 800 else 997]

    feature = rng.normal(size=(2, 13, 17, 3)).astype(np.float32)
    corner, side = rng.uniform(-20, 60, (12, 2)), rng.uniform(0, 60, (12, 2))
    rois = np.concatenate([corner, corner + side], axis=1)
    rois = np.concatenate([rois, [[0, 0, 68, 52], [9, 9, 9, 9], [30, 30, 10, 12], [-200, 0, -100, 9]]])
    rois = np.concatenate([np.arange(16)[:, None] % 2, rois], axis=1).astype(np.float32)
    golden |= {"feature": feature, "rois": rois}
    for aligned in (False, True):
        for sampling in (2, 3, 0):
            pooled = torchvision.ops.roi_align(
                torch.from_numpy(feature).permute(0, 3, 1, 2),
                torch.from_numpy(rois),
                5,
                0.25,
                sampling or -1,
                aligned,
            )
            golden[f"roi_align_{aligned}_{sampling}"] = nhwc(pooled)

    boxes = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([boxes, boxes + rng.uniform(4, 40, (80, 2))], axis=1).astype(np.float32)
    scores = (rng.integers(0, 12, 80) / 12).astype(np.float32)  # with ties
    classes = rng.integers(0, 3, 80)
    golden |= {"boxes": boxes, "scores": scores, "classes": classes}
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
    golden["nms"] = box_ops.nms(*tensors, 0.4).numpy()
    golden["batched_nms"] = box_ops.batched_nms(*tensors, torch.from_numpy(classes), 0.4).numpy()
    golden["iou"] = box_ops.box_iou(tensors[0], tensors[0][:20]).numpy()

    coder = detection._utils.BoxCoder((10.0, 10.0, 5.0, 5.0))
    targets = tensors[0].flip(0)
    golden["encoded"] = coder.encode_single(targets, tensors[0]).numpy()
    deltas = torch.from_numpy(rng.normal(size=(80, 4)).astype(np.float32) * 20)
    golden |= {"deltas": deltas.numpy(), "decoded": coder.decode_single(deltas, tensors[0]).numpy()}
    return golden


def record_files():
    """The same small tensors in PyTorch's two file formats."""
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = {
        "shared": base,
        "transposed": base.t()[1:],  # a view into the same storage
        "half": torch.tensor([0.5, -2.0], dtype=torch.float16),
        "bfloat16": torch.tensor([1.0, 3.140625], dtype=torch.bfloat16),
        "counter": torch.tensor(7),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3),
    }
    value = {"model": tensors, "epoch": 3}
    torch.save(value, FOLDER / "tensors.pth")
    torch.save(value, FOLDER / "tensors_legacy.pth", _use_new_zipfile_serialization=False)


def versions():
    return f"torch {torch.__version__}, torchvision {torchvision.__version__}"


@torch.no_grad()
def main():
    FOLDER.mkdir(exist_ok=True)
    record_files()
    np.savez_compressed(FOLDER / "torchvision_geometry.npz", **record_geometry())
    np.savez_compressed(FOLDER / "torchvision_training.npz", **record_training())
    for name, make in models().items():
        np.savez_compressed(FOLDER / f"torchvision_{name}.npz", **record_model(make))


if __name__ == "__main__":
    main()
