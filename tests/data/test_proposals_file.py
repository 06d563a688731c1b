import numpy as np
import pytest

from fpn_tf import config
from fpn_tf.data import proposals_file
from fpn_tf.data.loader import Loader
from fpn_tf.data.pipeline import evaluation_batches, open_dataset, training_batches
from fpn_tf.data.plan import training_plan
from fpn_tf.errors import DataError
from fpn_tf.structures import Detections

IDS = [100, 110, 120, 130, 140, 150]  # of the drawn folder's photos


def make_found(counts=(3, 0, 1, 2, 5, 4)):
    random = np.random.default_rng(0)
    found = {}
    for image_id, count in zip(IDS, counts):
        corner = random.uniform(0, 30, (count, 2))
        boxes = np.concatenate([corner, corner + random.uniform(5, 30, (count, 2))], axis=1).astype("f")
        scores = np.sort(random.uniform(size=count))[::-1].astype("f")
        found[image_id] = Detections(boxes, scores, np.ones(count, np.int64))
    return found


@pytest.fixture
def proposals(tmp_path):
    path = tmp_path / "p" / "train.npz"
    proposals_file.write(path, make_found())
    return path


def test_round_trip(proposals):
    again = proposals_file.read(proposals)
    assert list(again) == IDS
    for image_id, found in make_found().items():
        np.testing.assert_array_equal(again[image_id][0], found.boxes)
        np.testing.assert_array_equal(again[image_id][1], found.scores)
    proposals_file.write(proposals, {})
    assert proposals_file.read(proposals) == {}


def test_they_reach_the_batch_scaled_mirrored_and_padded(folder_config, proposals):
    settings = config.replace(
        folder_config,
        **{
            "model.kind": "fast_rcnn",
            "data.train_proposals": str(proposals),
            "data.eval_proposals": str(proposals),
            "data.max_train_proposals": 3,
            "data.short_side": 32,
            "data.max_side": 48,
        },
    )
    dataset = open_dataset(settings.data, "train")
    assert [len(r.proposals) for r in dataset.records] == [3, 0, 1, 2, 3, 3]
    loader = Loader(dataset, settings.data)
    plans = training_plan(dataset.records, settings.data, 2, seed=0)
    seen = set()
    for (x, _), plan in zip(training_batches(loader, settings.data, 2, 0).take(8), plans):
        for slot, index in enumerate(plan.indices):
            expected = dataset.records[index].proposals / 2
            width = int(x["image_sizes"][slot][1])
            if plan.flips[slot]:
                expected = np.stack(
                    [width - expected[:, 2], expected[:, 1], width - expected[:, 0], expected[:, 3]], axis=1
                )
            valid = x["proposal_valid"][slot].numpy()
            assert valid.sum() == len(expected)
            np.testing.assert_allclose(x["proposal_boxes"][slot].numpy()[valid], expected, rtol=1e-6)
            assert not x["proposal_boxes"][slot].numpy()[~valid].any()
            seen.add((bool(plan.flips[slot]), len(expected)))
    assert {flipped for flipped, _ in seen} == {False, True}
    batches = list(evaluation_batches(Loader(dataset, settings.data), settings.data, 2))
    counts = {
        int(i): int(v.sum()) for b in batches for i, v in zip(b["indices"], b["proposal_valid"].numpy())
    }
    assert counts == {0: 3, 1: 0, 2: 1, 3: 2, 4: 3, 5: 3}


def broken(path, **changes):
    with np.load(path) as arrays:
        values = dict(arrays) | changes
    np.savez(path, **{key: value for key, value in values.items() if value is not None})


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "no file of proposals"),
        (lambda path: path.write_text("[]"), "no file of proposals"),
        (lambda path: broken(path, boxes=None), "boxes"),
        (lambda path: broken(path, scores=np.zeros(2, "f")), "expected as many of each"),
        (lambda path: broken(path, boxes=np.full((15, 4), np.nan, "f")), "expected finite numbers"),
        (lambda path: proposals_file.write(path, {100: make_found()[100]}), "for 5 of 6 images, such as 110"),
    ],
)
def test_bad_files_are_told(folder_config, proposals, damage, told):
    damage(proposals)
    data = config.replace(folder_config, **{"data.train_proposals": str(proposals)}).data
    with pytest.raises(DataError, match=told) as caught:
        open_dataset(data, "train")
    assert str(proposals) in str(caught.value)
    assert "\n" not in str(caught.value)
