"""What version 0.1.0 wrote is read: weights and optimizers to the bit, and the same numbers come out.

`old_files` makes the files anew from what `record.py` recorded with that version. These tests use what
stays from version to version: `fpn_tf.load`, `model.weights`, `model.detect`, main.py's flags.
"""

import functools
import json

import keras
import numpy as np
import old_files
import pytest
from conftest import make_coco_folder

import fpn_tf
from fpn_tf.config import old_names

FIRST = "faster_rcnn"  # the kind whose longer tests are run by default
COMPUTED = [kind for kind in old_files.kinds() if f"{kind}/detected" in old_files.numbers()]
TRAINED = [kind for kind in COMPUTED if f"{kind}/resumed" in old_files.numbers()]
TOLERANCE = 1e-4
TODAY = {"score_loss": "segment_score_loss", "mask_loss": "segment_loss"}  # names of losses


def by_default(kinds, *default):
    """The kinds as parameters: all but `default` are slow."""
    return [k if k in default else pytest.param(k, marks=pytest.mark.slow) for k in kinds]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """kind -> the model of its model_dir, loaded once; for tests that leave the weights as they are."""

    @functools.cache
    def load(kind):
        return fpn_tf.load(old_files.write_model_dir(tmp_path_factory.mktemp(kind) / "run", kind))

    return load


@pytest.fixture(scope="module")
def photos_root(tmp_path_factory):
    """The folder of photos that the recorded runs had."""
    return make_coco_folder(tmp_path_factory.mktemp("compatibility") / "data")


@pytest.fixture(autouse=True)
def notes_not_given_yet():
    """Every note is given once in a process; here once in a test."""
    old_names.note.cache_clear()


@pytest.fixture
def optimizers(monkeypatch):
    """Every optimizer that is built while a test runs."""
    built, build = [], keras.optimizers.Optimizer.build

    def build_and_note(self, variables):
        if not any(optimizer is self for optimizer in built):
            built.append(self)
        return build(self, variables)

    monkeypatch.setattr(keras.optimizers.Optimizer, "build", build_and_note)
    return built


def values_of(variables):
    return [np.asarray(variable) for variable in variables]


def places_in(model, kind):
    """[W] where `model.weights` has each weight of the old order; its values are the seeded ones."""
    fingerprints = [old_files.as_multiset([w])[0] for w in values_of(model.weights)]
    return [fingerprints.index(old_files.as_multiset([v])[0]) for v in old_files.weight_values(kind)]


def seeded(kind):
    """(value, Weight) of every weight in the old order."""
    return zip(old_files.weight_values(kind), old_files.weights(kind), strict=True)


def assert_seeded(model, kind, stream=0):
    """Every weight of the model has the bits that the file holds, and no weight is left over."""
    wanted = old_files.weight_values(kind, stream)
    assert old_files.as_multiset(values_of(model.weights)) == old_files.as_multiset(wanted)


def assert_close(values, expected, name):
    """Asserts that arrays [D, ...] differ by TOLERANCE of the largest number in a column at most."""
    assert values.shape == expected.shape, name
    error = np.abs(values - expected).max(axis=0) / np.abs(expected).max(axis=0)
    assert np.all(error <= TOLERANCE), f"{name}: {error}"


# Weights --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", by_default(old_files.kinds(), FIRST, "mask_proposals", "frozen"))
def test_a_model_dir_is_loaded_to_the_bit(kind, loaded):
    model = loaded(kind)
    assert_seeded(model, kind)
    trainable = old_files.spans_expanded(old_files.recorded()["kinds"][kind]["trainable"])
    wanted = [old_files.weight_values(kind)[i] for i in trainable]
    assert old_files.as_multiset(values_of(model.trainable_weights)) == old_files.as_multiset(wanted)


def test_a_weights_file_with_its_config_is_loaded_to_the_bit(tmp_path):
    folder = old_files.write_model_dir(tmp_path / "run", FIRST) / "checkpoints" / "step_00000002"
    assert_seeded(fpn_tf.load(folder / old_files.MODEL_FILE), FIRST)


@pytest.mark.parametrize("kind", by_default([k for k in COMPUTED if old_files.has_keras(k)], FIRST))
def test_a_keras_file_is_loaded_to_the_bit(kind, tmp_path):
    path = old_files.write_keras(tmp_path / "old.keras", kind)
    model = keras.saving.load_model(path)
    assert_seeded(model, kind)
    momenta = old_files.keras_slot_values(kind)
    assert old_files.as_multiset(values_of(model.optimizer.variables)) == old_files.as_multiset(momenta)


@pytest.mark.parametrize("kind", by_default([k for k in old_files.kinds() if old_files.has_export(k)], FIRST))
def test_an_exported_npz_is_loaded_to_the_bit(kind, tmp_path):
    assert_seeded(fpn_tf.load(old_files.write_export(tmp_path / "old.npz", kind)), kind)


def test_an_export_has_the_names_and_layouts_of_before(main_here, tmp_path):
    model_dir = old_files.write_model_dir(tmp_path / "run", FIRST)
    status, _, errors = main_here("--mode=export", f"--model_dir={model_dir}", "--format=npz")
    assert status == 0, errors
    [path] = model_dir.rglob("export/**/*.npz")
    wanted = old_files.exported_arrays(FIRST)
    with np.load(path) as arrays:
        assert set(arrays.files) >= set(wanted)
        for name, value in wanted.items():
            np.testing.assert_array_equal(arrays[name], value, err_msg=name)


# What they compute ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("kind", by_default(COMPUTED, FIRST))
def test_detections_are_those_of_before(kind, loaded):
    assert_close(old_files.detected(loaded(kind), kind), old_files.numbers()[f"{kind}/detected"], kind)


@pytest.mark.parametrize("kind", by_default(COMPUTED, FIRST))
def test_losses_are_those_of_before(kind, loaded):
    losses = old_files.losses_of(loaded(kind), kind)
    for name, value in old_files.results()[kind]["losses"].items():
        if value or name in losses:  # a loss that a kind of model does not have was 0, and is absent now
            assert float(losses[TODAY.get(name, name)]) == pytest.approx(value, rel=TOLERANCE), name


@pytest.mark.parametrize("kind", by_default(TRAINED))
def test_a_model_dir_is_evaluated_as_before(kind, main_here, photos_root, tmp_path):
    model_dir = old_files.write_model_dir(tmp_path / "run", kind, **{"data.root": str(photos_root)})
    status, _, errors = main_here("--mode=eval", f"--model_dir={model_dir}")
    assert status == 0, errors
    assert_close(old_files.evaluated(model_dir), old_files.numbers()[f"{kind}/evaluated"], kind)
    metrics = json.loads((model_dir / "eval" / "metrics.json").read_text())
    for name, value in old_files.results()[kind]["metrics"].items():
        assert metrics[name] == pytest.approx(value, abs=TOLERANCE), name


# Going on -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", by_default([*TRAINED, "half"], FIRST))
def test_a_run_goes_on_with_its_optimizer(kind, main_here, optimizers, photos_root, tmp_path):
    """The run has its last step behind it, so what was restored stays as it is."""
    changes = {"data.root": str(photos_root), "train.steps": old_files.STEP}
    model_dir = old_files.write_model_dir(tmp_path / "run", kind, **changes)
    status, _, errors = main_here("--mode=train", f"--model_dir={model_dir}")
    assert status == 0, errors
    restored = [old_files.as_multiset(values_of(o.variables)) for o in optimizers]
    assert old_files.as_multiset(old_files.slot_values(kind)) in restored


@pytest.mark.parametrize("kind", by_default(TRAINED))
def test_a_run_goes_on_to_the_weights_of_before(kind, main_here, photos_root, tmp_path):
    model_dir = old_files.write_model_dir(tmp_path / "run", kind, **{"data.root": str(photos_root)})
    places = places_in(fpn_tf.load(model_dir), kind)
    status, _, errors = main_here("--mode=train", f"--model_dir={model_dir}")
    assert status == 0, errors
    lines = (model_dir / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4]
    for name, value in old_files.results()[kind]["train"].items():
        assert json.loads(lines[-1])[name] == pytest.approx(value, rel=TOLERANCE), name
    weights = values_of(fpn_tf.load(model_dir).weights)
    resumed = np.stack([old_files.sample(weights[place]) for place in places])
    scales = np.array([np.abs(weights[place]).max() for place in places])
    error = np.abs(resumed - old_files.numbers()[f"{kind}/resumed"]).max(axis=1) / scales
    assert np.all(error <= TOLERANCE), error


@pytest.mark.slow
def test_a_run_starts_from_the_parts_of_another(main_here, photos_root, tmp_path):
    """With a learning rate that is next to nothing the weights after a step are those it started from."""
    source = old_files.write_model_dir(tmp_path / "source", FIRST)
    changes = {"data.root": str(photos_root), "train.start_from": str(source), "train.learning_rate": 1e-30}
    old_files.write_new_run(tmp_path / "run", "rpn", **changes, **{"train.steps": 1})
    status, _, errors = main_here("--mode=train", f"--model_dir={tmp_path / 'run'}")
    assert status == 0, errors
    weights = old_files.as_multiset(values_of(fpn_tf.load(tmp_path / "run").weights))
    assert set(weights) < set(old_files.as_multiset(old_files.weight_values(FIRST)))


# Keys and names -------------------------------------------------------------------------------------------


def test_old_keys_are_read_in_overrides(tmp_path):
    model_dir = old_files.write_model_dir(tmp_path / "run", FIRST)
    model = fpn_tf.load(model_dir, overrides=["train.freeze=fpn,rpn_head", "model.fpn_channels=16"])
    learned = [v for v, w in seeded(FIRST) if not w.name.startswith(("fpn/", "rpn_head/"))]
    assert old_files.as_multiset(values_of(model.trainable_weights)) == old_files.as_multiset(learned)


@pytest.mark.slow
def test_old_keys_of_segment_proposals_are_read_in_overrides(tmp_path):
    model_dir = old_files.write_model_dir(tmp_path / "run", "mask_proposals")
    model = fpn_tf.load(model_dir, overrides=["model.mask.max_proposals=7"])
    assert len(model.detect([old_files.photo()])[0].scores) == 7


def test_old_keys_are_read_on_the_command_line(main_here, photos_root, tmp_path):
    model_dir = old_files.write_model_dir(tmp_path / "run", FIRST, **{"data.root": str(photos_root)})
    steps = [f"train.steps={old_files.STEP}"]
    status, _, errors = main_here(
        "--mode=train",
        f"--model_dir={model_dir}",
        overrides=["model.fpn_channels=16", "model.pyramid=fpn", *steps],
    )
    assert status == 0, errors
    status, _, errors = main_here(
        "--mode=train", f"--model_dir={model_dir}", overrides=["model.fpn_channels=24", *steps]
    )
    assert status == 1  # the run has another architecture
    assert "24" in errors


def test_old_names_make_the_same_models(loaded):
    for name, kind in (("FasterRCNN", FIRST), ("MaskProposals", "mask_proposals")):
        again = getattr(fpn_tf, name)(loaded(kind).config)
        assert [w.shape for w in again.weights] == [w.shape for w in loaded(kind).weights]


def test_detections_unpack_into_three(loaded):
    boxes, scores, classes = loaded(FIRST).detect([old_files.photo()])[0]
    assert boxes.shape == (len(scores), 4)
    assert set(classes) <= {7, 3, 90}


OLD_KEYS = {  # kind -> old keys that its config needs
    "top_down": ("model.pyramid", "model.fpn_channels", "model.fpn_norm"),
    "mask_proposals": ("model.kind", "model.mask", "data.masks"),
    "frozen": ("train.freeze", "train.start_from"),
}


@pytest.mark.parametrize("kind", OLD_KEYS)
def test_a_note_names_the_old_keys_of_a_file(kind, capfd, caplog, tmp_path):
    """In one line each, or in one for all."""
    fpn_tf.load(old_files.write_model_dir(tmp_path / "run", kind, **{"train.start_from": "runs/another"}))
    lines = (caplog.text + "".join(capfd.readouterr())).splitlines()
    assert not [key for key in OLD_KEYS[kind] if not any(key in line for line in lines)]


def test_a_note_names_an_old_key_of_the_command_line(main_here, caplog, photos_root, tmp_path):
    model_dir = old_files.write_model_dir(tmp_path / "run", FIRST, **{"data.root": str(photos_root)})
    overrides = ["model.fpn_channels=16", f"train.steps={old_files.STEP}"]
    status, _, errors = main_here("--mode=train", f"--model_dir={model_dir}", overrides=overrides)
    assert status == 0, errors
    assert any("model.fpn_channels" in line for line in (caplog.text + errors).splitlines())
