"""What users get wrong: each kind ends `main.py` with status 1 and one line, and harms no file."""

import hashlib
import json
import pathlib
import pickle
import shutil

import numpy as np
import pytest
from commands import SMALL, main
from conftest import folder_overrides, make_coco_folder
from PIL import Image

from fpn_tf import checkpoint
from fpn_tf import config as config_lib
from fpn_tf.assemble import build
from fpn_tf.checkpoint import Checkpoints
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.training.preparation import with_classes

NEW, OLD = "--model_dir={tmp}/new", "--model_dir={run}"
TRAIN = ["--mode=train", "--experiment=coco_r50_fpn_1x"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model_dir with a checkpoint, and what an evaluation leaves."""
    folder = tmp_path_factory.mktemp("bad")
    root = make_coco_folder(folder / "data")
    config = config_lib.override(config_lib.Config(), [*SMALL, *folder_overrides(root)])
    config = with_classes(config, open_dataset(config.data, "train"))
    model = build(config)
    model_dir = folder / "run"

    def write(at):
        checkpoint.write_model(model, at)
        np.savez(at / checkpoint.OPTIMIZER_FILE, a=np.zeros(1))

    Checkpoints(model_dir).save(2, write)
    config_lib.save(config, model_dir / "config.json")
    (model_dir / "eval").mkdir()
    (model_dir / "eval" / "metrics.json").write_text('{"AP": 0.5}')
    return model_dir


def hashes(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# Ways to spoil the data folder `root` or the scratch folder `tmp` ------------------------------


def annotations(change):
    """Changes the annotation file."""

    def arrange(root, tmp):
        path = root / "annotations.json"
        coco = json.loads(path.read_text())
        change(coco)
        path.write_text(json.dumps(coco))

    return arrange


def text(name, content):
    """Writes a file, named from `root` or `tmp`."""

    def arrange(root, tmp):
        path = pathlib.Path(name.format(root=root, tmp=tmp))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return arrange


def every_photo(change):
    def arrange(root, tmp):
        for path in (root / "images").iterdir():
            change(path)

    return arrange


def cut_short(root, tmp):
    """A copy of the run whose only checkpoint is cut short."""
    shutil.copytree(root.parent / "run", tmp / "cut")
    weights = tmp / "cut" / "checkpoints" / "step_00000002" / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:-1000])


def another_backbone(root, tmp):
    np.savez(tmp / "other.npz", **{"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)})


class Hostile:
    def __reduce__(self):
        return __import__("os").system, ("touch {tmp}/harm",)


def hostile(root, tmp):
    (tmp / "w.pkl").write_bytes(pickle.dumps({"model": Hostile()}))


def nothing(root, tmp):
    pass


def results(*entries):
    return text("{tmp}/found.json", json.dumps(list(entries)).encode())


GOOD = {"image_id": 100, "category_id": 7, "bbox": [1, 2, 3, 4], "score": 0.5}
SCORE = ["--mode=eval", "--detections={tmp}/found.json", "--annotations={root}/annotations.json"]
FAST_RCNN = ["model.kind=fast_rcnn", "data.eval_proposals={tmp}/p.npz"]
# name: (how to spoil, arguments, overrides, what the line says)
CASES = {
    "experiment": (nothing, ["--experiment=nothing"], [], "--experiment=nothing: no such file"),
    "key": (nothing, [NEW], ["train.stepz=1"], "train.stepz: no such key"),
    "section": (nothing, [NEW], ["train=1"], "train: is a section"),
    "no value": (nothing, [NEW], ["train.steps"], "expected dotted.key=value"),
    "type": (nothing, [NEW], ["train.steps=1.5"], "train.steps=1.5: expected a whole number"),
    "bound": (nothing, [NEW], ["train.learning_rate=-1"], "train.learning_rate=-1.0: expected a positive"),
    "infinite": (nothing, [NEW], ["train.learning_rate=inf"], "train.learning_rate=inf: expected a"),
    "replicas": (nothing, [NEW], ["train.num_replicas=-1"], "train.num_replicas=-1: expected 0 or more"),
    "batch below replicas": (
        nothing,
        [NEW],
        ["train.batch_size=1", "train.num_replicas=2"],
        "train.batch_size=1: expected a multiple",
    ),
    "batch and parts": (
        nothing,
        [NEW],
        ["train.batch_size=3", "train.accumulation_steps=2"],
        "train.batch_size=3: expected a multiple",
    ),
    "keep_every": (
        nothing,
        [NEW],
        ["train.keep_every=5", "train.checkpoint_every=2"],
        "train.keep_every=5: expected a multiple",
    ),
    "sync_bn and remat": (
        nothing,
        [NEW],
        ["model.norm=sync_bn", "train.remat=true"],
        "train.remat=true: expected model.norm frozen_bn or group_norm",
    ),
    "no data": (
        nothing,
        [*TRAIN, NEW],
        ["data.train_annotations=", "data.train_images="],
        "no train data: set data.train_annotations",
    ),
    "TFDS name": (
        nothing,
        [*TRAIN, NEW],
        ["data.train_annotations=", "data.train_images=", "data.tfds_name=no_such_set"],
        "data.tfds_name=no_such_set",
    ),
    "no run": (nothing, ["--mode=eval", NEW], [], "new: no such folder; expected a model_dir"),
    "config is no JSON": (
        text("{tmp}/new/config.json", b"{"),
        ["--mode=eval", NEW],
        [],
        "config.json: not valid JSON",
    ),
    "config of another version": (
        text("{tmp}/new/config.json", b'{"train": {"stepz": 1}}'),
        ["--mode=export", NEW],
        [],
        "config.json: train.stepz: no such key",
    ),
    "checkpoint cut short": (
        cut_short,
        ["--mode=eval", "--model_dir={tmp}/cut"],
        [],
        "cut/checkpoints: holds no whole checkpoint (newest)",
    ),
    "no such step": (
        nothing,
        ["--mode=predict", OLD, "--checkpoint=7", "--images={root}/images"],
        [],
        "run/checkpoints: holds no whole checkpoint (7); the steps there are: 2",
    ),
    "checkpoint of no form": (
        nothing,
        ["--mode=eval", OLD, "--checkpoint=last"],
        [],
        "--checkpoint=last: expected newest, best or the number of a step",
    ),
    "data of another mode": (
        nothing,
        ["--mode=train", NEW, "--images={root}/images"],
        [],
        "images: --mode=train does not read it; expected --mode=predict",
    ),
    "data that would not be read": (
        nothing,
        ["--mode=inspect", NEW],
        ["data.root={root}"],
        "data: the train split would be read from data.tfds_name=shapes; expected data.train_annotations",
    ),
    "start from itself": (
        nothing,
        ["--mode=train", OLD],
        ["train.initial_model_dir={run}"],
        "run: is the run's own folder; expected another --model_dir",
    ),
    "no best": (nothing, ["--mode=export", OLD, "--checkpoint=best"], [], "no whole checkpoint (best)"),
    "override of the network": (
        nothing,
        ["--mode=eval", OLD],
        ["model.neck_channels=24"],
        "does not fit the model of config.json",
    ),
    "model_dir is a file": (
        text("{tmp}/new", b""),
        [*TRAIN, NEW],
        [],
        "new: cannot be made (File exists)",
    ),
    "model_dir cannot be": (
        nothing,
        [*TRAIN, "--model_dir=/proc/none/run"],
        [],
        "/proc/none/run: cannot be made",
    ),
    "another experiment": (
        nothing,
        [*TRAIN, OLD],
        ["model.backbone=resnet18"],
        "has model.backbone=resnet_tiny (this run asks for resnet18), ",
    ),
    "another seed": (nothing, [*TRAIN, OLD], ["train.seed=7"], "train.seed=0 (this run asks for 7)"),
    "another optimizer": (
        nothing,
        [*TRAIN, OLD],
        ["train.optimizer=adamw"],
        "train.optimizer=sgd (this run",
    ),
    "other classes": (
        annotations(lambda c: c["categories"][0].update(name="pink")),
        [*TRAIN, OLD],
        [],
        "data.class_names=('red', 'green', 'blue') (this run asks for ('pink', 'green', 'blue'))",
    ),
    "fewer classes": (
        annotations(lambda c: c["categories"].append({"id": 4, "name": "more"})),
        [*TRAIN, OLD],
        [],
        "has model.num_classes=3 (this run asks for 4)",
    ),
    "number of classes": (
        nothing,
        [*TRAIN, NEW],
        ["model.num_classes=5"],
        "model.num_classes=5: the training data has 3 classes",
    ),
    "classes of the held-out data": (
        lambda root, tmp: annotations(
            lambda c: [e.update(name=n) for e, n in zip(c["categories"], ("green", "cyan", "blue"))]
        )(shutil.copytree(root, tmp / "held"), tmp),
        ["--mode=train_and_eval", "--experiment=coco_r50_fpn_1x", NEW],
        ["data.eval_annotations={tmp}/held/annotations.json"],
        "has the classes 7: green, 3: cyan, 90: blue; the model has 7: red, 3: green, 90: blue; expected",
    ),
    "backbone absent": (
        nothing,
        [*TRAIN, NEW],
        ["model.backbone_weights=/none.npz"],
        "/none.npz: No such file",
    ),
    "backbone of another network": (
        another_backbone,
        [*TRAIN, NEW],
        ["model.backbone_weights={tmp}/other.npz"],
        "other.npz and ResNet-tiny: does not fit the model: conv1.weight is (64, 3, 7, 7), expected",
    ),
    "no data folder": (nothing, [*TRAIN, NEW], ["data.root=/none"], "/none/annotations.json: No such file"),
    "no photo folder": (
        nothing,
        [*TRAIN, NEW],
        ["data.train_images=none"],
        "none: no such folder; expected the photos",
    ),
    "empty photo folder": (
        every_photo(lambda path: path.unlink()),
        [*TRAIN, NEW],
        [],
        "photo_0.png: no such file, named by image 100",
    ),
    "one photo absent": (
        lambda root, tmp: (root / "images" / "photo_3.png").unlink(),
        [*TRAIN, NEW],
        [],
        "photo_3.png: no such file, named by image 130",
    ),
    "annotations no JSON": (text("{root}/annotations.json", b"{"), [*TRAIN, NEW], [], "not valid JSON"),
    "annotations no text": (
        text("{root}/annotations.json", b"\xff\xfe\x00"),
        [*TRAIN, NEW],
        [],
        "annotations.json: not valid JSON",
    ),
    "a list": (text("{root}/annotations.json", b"[]"), [*TRAIN, NEW], [], "found a list; expected an object"),
    "key absent": (annotations(lambda c: c.pop("categories")), [*TRAIN, NEW], [], "no list 'categories'"),
    "no images": (annotations(lambda c: c["images"].clear()), [*TRAIN, NEW], [], "'images' is empty"),
    "no category": (
        annotations(lambda c: c["categories"].clear()),
        [*TRAIN, NEW],
        [],
        "'categories' is empty",
    ),
    "category id": (
        annotations(lambda c: [a.update(category_id=5) for a in c["annotations"]]),
        [*TRAIN, NEW],
        [],
        "annotations[2] (id 3): category_id = 5 is none of the ids in 'categories' (11 such)",
    ),
    "image id": (
        annotations(lambda c: c["annotations"][1].update(image_id=5)),
        [*TRAIN, NEW],
        [],
        "annotations[1] (id 2): image_id = 5 is no image's id",
    ),
    "image id twice": (
        annotations(lambda c: c["images"][1].update(id=100)),
        [*TRAIN, NEW],
        [],
        "images[1].id = 100: is used twice",
    ),
    "annotation id twice": (
        annotations(lambda c: c["annotations"][1].update(id=1)),
        [*TRAIN, NEW],
        [],
        "annotations[1].id = 1: is used twice",
    ),
    "NaN box": (
        annotations(lambda c: c["annotations"][0].update(bbox=[1, 2, 3, float("nan")])),
        [*TRAIN, NEW],
        [],
        "annotations[0] (id 1).bbox = [1, 2, 3, NaN]: expected [x, y, width, height]",
    ),
    "box of three": (
        annotations(lambda c: c["annotations"][0].update(bbox=[1, 2, 3])),
        [*TRAIN, NEW],
        [],
        "bbox = [1, 2, 3]: expected [x, y, width, height]",
    ),
    "two kinds at once": (
        annotations(lambda c: c["annotations"][0].update(category_id=5, bbox="x")),
        [*TRAIN, NEW],
        [],
        '(7: red, 3: green, 90: blue); annotations[0] (id 1).bbox = "x": expected [x',
    ),
    "nothing to learn": (
        annotations(lambda c: c["annotations"].clear()),
        [*TRAIN, NEW],
        [],
        "none of the 6 training photos has a box",
    ),
    "photos of 0 bytes": (
        every_photo(lambda path: path.write_bytes(b"")),
        [*TRAIN, NEW],
        [],
        "6 of 6 photos cannot be used, more than data.max_bad_fraction=0.5: 6 photos cannot be read",
    ),
    "photos of another size": (
        every_photo(lambda path: Image.new("RGB", (9, 9)).save(path)),
        [*TRAIN, NEW],
        [],
        "6 photos are not of the annotated size",
    ),
    "photos without --images": (nothing, ["--mode=predict", OLD], [], "--mode=predict: expected --images="),
    "no such photos": (nothing, ["--mode=predict", OLD, "--images=/none/*.jpg"], [], "no photos there"),
    "no photo is readable": (
        text("{tmp}/photos/a.jpg", b""),
        ["--mode=predict", OLD, "--images={tmp}/photos", "--output={tmp}/out"],
        [],
        "none of the 1 file(s) is a readable photo",
    ),
    "pictures among the photos": (
        text("{tmp}/photos/a.png", b"a photo"),
        ["--mode=predict", OLD, "--images={tmp}/photos", "--output={tmp}/photos"],
        [],
        "/photos: is the folder of the photos; expected another one",
    ),
    "proposals in the place of a photo": (
        text("{tmp}/a.png", b"a photo"),
        ["--mode=propose", OLD, "--output={tmp}/a.png"],
        [],
        "a.png: expected a file ending in .npz",
    ),
    "detections alone": (nothing, ["--mode=eval", "--detections=x.json"], [], "expected both or neither"),
    "detections no JSON": (text("{tmp}/found.json", b"nope"), SCORE, [], "found.json: not valid JSON"),
    "detections no list": (text("{tmp}/found.json", b"{}"), SCORE, [], "expected a list of results"),
    "detection without score": (
        results({k: v for k, v in GOOD.items() if k != "score"}),
        SCORE,
        [],
        "has no score: expected an object with",
    ),
    "detection of another image": (
        results(GOOD | {"image_id": 1}),
        SCORE,
        [],
        "[0].image_id = 1: expected an image of",
    ),
    "detection is no object": (
        results(5),
        SCORE,
        [],
        "found.json: [0] = 5 has no image_id: expected an object",
    ),
    "truth of another form": (
        lambda root, tmp: (results(GOOD)(root, tmp), annotations(lambda c: c.pop("images"))(root, tmp)),
        SCORE,
        [],
        "no list 'images'",
    ),
    "official annotations of other images": (
        lambda root, tmp: annotations(lambda c: [i.update(id=i["id"] + 1) for i in c["images"]])(
            shutil.copytree(root, tmp / "official"), tmp
        ),
        ["--mode=eval", OLD],
        ["eval.annotations={tmp}/official/annotations.json"],
        "official/annotations.json: annotations[0] (id 1): image_id = 100 is no image's id (101, 111",
    ),
    "benchmark of no classes": (
        nothing,
        ["--mode=benchmark", "--experiment=coco_r50_fpn_1x", NEW],
        ["model.num_classes=0"],
        "model.num_classes=0: --mode=benchmark opens no data; expected a number of classes",
    ),
    "benchmark of a size": (
        nothing,
        ["--mode=benchmark", "--experiment=shapes", "--image_size=100,200", NEW],
        [],
        "--image_size=100,200: expected whole multiples of 32",
    ),
    "benchmark of a precision": (
        nothing,
        ["--mode=benchmark", "--experiment=shapes", "--precisions=float64", NEW],
        [],
        "train.precision=float64: expected one of float32",
    ),
    "import of nothing": (nothing, ["--mode=import_weights"], [], "expected --weights=FILE"),
    "import of an absent file": (
        nothing,
        ["--mode=import_weights", "--weights=/none.pkl", NEW],
        [],
        "/none.pkl: No such file",
    ),
    "import of another kind of file": (
        text("{tmp}/w.onnx", b"x"),
        ["--mode=import_weights", "--weights={tmp}/w.onnx", NEW],
        [],
        "w.onnx: expected a file ending in",
    ),
    "import of a damaged file": (
        text("{tmp}/w.pth", b"PK\x03\x04 cut"),
        ["--mode=import_weights", "--weights={tmp}/w.pth", NEW],
        [],
        "w.pth: ",
    ),
    "import of a hostile file": (
        hostile,
        ["--mode=import_weights", "--weights={tmp}/w.pkl", NEW],
        [],
        "posix.system, which no weights need; refused",
    ),
    "import of weights without a config": (
        text("{tmp}/w.weights.h5", b"x"),
        ["--mode=import_weights", "--weights={tmp}/w.weights.h5", NEW],
        [],
        "config.json: no such file",
    ),
    "import over a run": (
        another_backbone,
        ["--mode=import_weights", "--weights={tmp}/other.npz", OLD],
        [],
        "holds a run already; choose another",
    ),
    "neck": (nothing, [NEW], ["model.neck=p3"], "model.neck=p3: expected one of fpn, bottom_up"),
    "frozen part": (nothing, [NEW], ["train.freeze=tail"], "train.freeze=tail: expected some of backbone"),
    "proposals of no use": (
        nothing,
        [*TRAIN, NEW],
        ["data.train_proposals={tmp}/p.npz"],
        "p.npz: expected one with model.kind=fast_rcnn, none without",
    ),
    "no proposals": (
        nothing,
        [*TRAIN, NEW],
        [*FAST_RCNN, "data.train_proposals={tmp}/p.npz"],
        "p.npz: No such file or directory; expected the file of --mode=propose",
    ),
    "proposals of another kind": (
        text("{tmp}/p.npz", b"{}"),
        [*TRAIN, NEW],
        [*FAST_RCNN, "data.train_proposals={tmp}/p.npz"],
        "p.npz: no file of proposals",
    ),
    "no segments": (
        nothing,
        [*TRAIN, NEW],
        ["model.kind=segment_proposals", "data.segments=true"],
        "annotation 1 of image 100: segmentation = null; expected polygons or a run-length code",
    ),
    "segments of no use": (
        nothing,
        [*TRAIN, NEW],
        ["data.segments=true"],
        "data.segments=True: expected true with",
    ),
    "scales": (
        nothing,
        ["--mode=eval", OLD],
        ["eval.short_sides=0"],
        "eval.short_sides=(0,): expected",
    ),
    "start from nothing": (
        nothing,
        [*TRAIN, NEW],
        ["train.initial_model_dir={tmp}/none"],
        "none: no such folder; expected a model_dir",
    ),
    "start from another shape": (
        nothing,
        [*TRAIN, NEW],
        ["train.initial_model_dir={run}", "model.neck_channels=24"],
        "its neck has another shape than this model's",
    ),
    "join without folders": (nothing, ["--mode=join", NEW], [], "--mode=join: expected --rpn_dir=DIR"),
    "join of others": (
        nothing,
        ["--mode=join", NEW, "--rpn_dir={run}", "--fast_rcnn_dir={run}"],
        [],
        "model.kind=faster_rcnn: expected rpn",
    ),
    "report of nothing": (
        nothing,
        ["--mode=report", "--model_dirs={tmp}/none/*", "--table=1"],
        [],
        "none/*: no run there",
    ),
}


def check(case, call, run, tmp_path):
    """Spoils what the case spoils, runs it, and puts the data folder right again."""
    arrange, arguments, overrides, message = CASES[case]
    root = run.parent / "data"
    names = {"root": root, "tmp": tmp_path, "run": run}
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    try:
        arrange(root, tmp_path)
        spoiled = hashes(run.parent) | hashes(tmp_path)
        given = [*SMALL, *folder_overrides(root)] if "--experiment=coco_r50_fpn_1x" in arguments else []
        status, _, errors = call(
            *(a.format(**names) for a in arguments),
            overrides=[o.format(**names) for o in (*given, *overrides)],
        )
        after = hashes(run.parent) | hashes(tmp_path)
    finally:
        for path, content in before.items():
            path.write_bytes(content)
    assert status == 1, errors
    told = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(told) == 1, errors
    assert message in told[0]
    assert "Traceback" not in errors
    assert {path: after.get(path) for path in spoiled} == spoiled
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("case", CASES)
def test_one_line(case, main_here, run, tmp_path):
    check(case, main_here, run, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_one_line_in_a_process_of_its_own(case, run, tmp_path):
    check(case, main, run, tmp_path)


@pytest.mark.parametrize(
    ("tf_config", "message"),
    [
        ("{", "TF_CONFIG={: JSONDecodeError"),
        ({"cluster": 5}, 'expected {"cluster"'),
        ({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "ps", "index": 0}}, "this process is ps 0"),
        (
            {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}},
            "worker 2 of 2 workers; expected worker 0..1",
        ),
    ],
)
def test_a_cluster_that_cannot_be(main_here, run, tmp_path, monkeypatch, tf_config, message):
    monkeypatch.setenv("TF_CONFIG", tf_config if isinstance(tf_config, str) else json.dumps(tf_config))
    overrides = [*SMALL, *folder_overrides(run.parent / "data")]
    status, _, errors = main_here(*TRAIN, f"--model_dir={tmp_path}/new", overrides=overrides)
    assert status == 1
    assert message in errors
    assert errors.count("error: ") == 1


@pytest.mark.usefixtures("eagerly")
def test_odd_photos_are_no_mistake(run, tmp_path, main_here, caplog):
    """One pixel; a line of 20,000; and one too large to be true, which is passed over."""
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "photos" / "point.png")
    Image.new("RGB", (20000, 3)).save(tmp_path / "photos" / "line.png")
    Image.new("1", (20000, 20000)).save(tmp_path / "photos" / "bomb.png")
    arguments = [
        "--mode=predict",
        f"--model_dir={run}",
        f"--images={tmp_path}/photos",
        f"--output={tmp_path}/out",
    ]
    status, output, errors = main_here(*arguments)
    assert status == 0, errors
    assert "on 2 of 3 photos" in output
    assert "bomb.png" in caplog.text
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["line.png", "point.png"]
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())["images"]) == 2
