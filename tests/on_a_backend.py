"""What `backends` runs in processes without TensorFlow: detection, and training with all after it.

Each function reads and writes files in a folder that the other process filled.
"""

import json
import pathlib

import keras
import numpy as np

import fpn_tf
from fpn_tf import config


def detect(folder):
    """Writes detections.npz: those of config.json and model.weights.h5 in photo.npy."""
    folder = pathlib.Path(folder)
    model = fpn_tf.build(config.load(folder / "config.json"))
    model.load_weights(folder / "model.weights.h5")
    save_detections(model, np.load(folder / "photo.npy"), folder / "detections.npz")


def save_detections(model, photo, path):
    """What a model finds in a photo, as arrays in a file."""
    [detections] = model.detect(photo)
    boxes, scores, classes = detections
    np.savez(path, boxes=boxes, scores=scores, classes=classes)


def train(folder):
    """Fits, evaluates, detects, saves, loads and misuses the model of config.json; writes results.json."""
    folder = pathlib.Path(folder)
    photo = np.load(folder / "photo.npy")
    annotations, photos = folder / "data" / "annotations.json", folder / "data" / "images"
    keras.utils.set_random_seed(0)
    model = fpn_tf.build(config.load(folder / "config.json"))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    batches = fpn_tf.batches(annotations, photos, preprocessor=model.preprocessor)
    held_out = fpn_tf.batches(annotations, photos, preprocessor=model.preprocessor, shuffle=False)
    results = {
        "fit": model.fit(batches, epochs=4, verbose=0).history["loss"],
        "evaluate": model.evaluate(held_out, verbose=0, return_dict=True),
        "evaluate_again": model.evaluate(held_out, verbose=0, return_dict=True),
        "AP": fpn_tf.evaluate(model, annotations, photos)["AP"],
    }

    [every] = model.detect(photo, score_threshold=0)
    results["threshold"] = float(np.median(every.scores))
    [above] = model.detect(photo, score_threshold=results["threshold"])
    results |= {"scores": every.scores.tolist(), "scores_above": above.scores.tolist()}

    model.save(folder / "m.keras")
    again = keras.saving.load_model(folder / "m.keras")
    for weight, same in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same)
    results["scores_of_the_saved"] = again.detect(photo, score_threshold=0)[0].scores.tolist()
    results["fit_of_the_saved"] = again.fit(batches, epochs=1, verbose=0).history["loss"]

    calls = (lambda: model(photo), lambda: model.predict(photo[None], verbose=0))
    results["misuse"] = [error_of(call) for call in calls]
    (folder / "results.json").write_text(json.dumps(results, default=float))


def error_of(call):
    """The text of the ValueError that a call ends with; "" where it ends without."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""
