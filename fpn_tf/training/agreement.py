"""Whether all workers of a cluster were started alike: with one configuration, data set and software."""

import hashlib
import importlib.metadata
import inspect
import json
import os
import pathlib
import platform

import numpy as np

import fpn_tf
from fpn_tf import config as config_lib
from fpn_tf.checkpoint import Checkpoints
from fpn_tf.checkpoint_state import state_of
from fpn_tf.data.records import in_columns
from fpn_tf.data.snapshot import snapshot_of
from fpn_tf.errors import ClusterError

PACKAGES = ("keras", "tensorflow", "numpy", "pillow", "opencv-python-headless", "pycocotools")
SWITCHES = ("FPN_TF_PLAIN_KERNELS", "TF_ENABLE_ONEDNN_OPTS")  # environment variables that move results
PLACES = (  # keys that say where something lies, which may differ where the contents do not
    "data.root",
    "data.folder",
    "data.tfds_dir",
    *(
        f"data.{split}_{what}"
        for split in ("train", "eval")
        for what in ("annotations", "images", "proposals")
    ),
    "eval.annotations",
    "train.initial_model_dir",
    "model.backbone_weights",
)
OF_ONE_WORKER = ("data.workers",)  # threads
SHOWN = 8  # differences of a worker that a message names
LONGEST = 40  # characters of a value in a message
HASHED = "#"  # begins a value that stands for a longer one


def check_agreement(cluster, facts):
    """Raises ClusterError, on all workers, where they do not call this with the same facts.

    Args:
        cluster: Cluster.
        facts: {what: text}, such as `command_facts` and `data_facts` make.
    """
    if cluster.workers == 1:
        return
    texts = cluster.gathered_texts(json.dumps(facts))
    difference = difference_between([json.loads(text) for text in texts])
    if difference:
        raise ClusterError(difference)


def difference_between(facts):
    """Where workers differ from the first, in one line; "" where they do not.

    Args:
        facts: {what: text} of each worker.
    """
    texts = []
    for number, others in enumerate(facts[1:], start=1):
        keys = [key for key in {**facts[0], **others} if facts[0].get(key) != others.get(key)]
        if all(key in PLACES for key in keys):
            continue
        named = [_named(key, others.get(key), facts[0].get(key)) for key in keys]
        more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        texts.append(f"worker {number} has {', '.join(named[:SHOWN])}{more}")
    if not texts:
        return ""
    return f"{'; '.join(texts)}: expected the same command, data and software on all {len(facts)} workers"


def command_facts(mode, config, model_dir, get_model=None):
    """{what: text} of what a worker was started with.

    Args:
        mode: name of what it is to do.
        config: Config.
        model_dir: the folder of the run.
        get_model: config -> model, of an experiment that has parts of its own, or None.
    """
    values = _flat(config_lib.to_dict(config))
    facts = {"--mode": mode} | {key: _short(value) for key, value in values if key not in OF_ONE_WORKER}
    return facts | _checkpoint_facts(model_dir, "newest") | _software(get_model)


def reading_facts(mode, model_dir, overrides, checkpoint):
    """{what: text} of what a worker was started with that reads a run.

    Args:
        mode: name of what it is to do.
        model_dir: the folder of the run.
        overrides: `dotted.key=value` texts.
        checkpoint: see `Checkpoints.find`.
    """
    facts = {"--mode": mode, "--params_override": _short(list(overrides)), "--checkpoint": checkpoint}
    return facts | _checkpoint_facts(model_dir, checkpoint) | _software(None)


def _checkpoint_facts(model_dir, which):
    folder = Checkpoints(model_dir).find(which)
    state = {} if folder is None else state_of(folder)
    return {
        f"{which} checkpoint": f"step {state['step']}" if state else "none",
        "files of the checkpoint": _hashed(json.dumps(state.get("files"), sort_keys=True)),
    }


def data_facts(dataset, name, has_segments=False):
    """{what: text} of a Dataset as a worker sees it.

    Args:
        dataset: Dataset.
        name: of it, for messages.
        has_segments: whether the annotations' segmentations are trained on.
    """
    snapshot, records = snapshot_of(dataset, has_segments), in_columns(dataset.records)
    values = {
        "ids or order of the photos": snapshot.image_ids,
        "sizes of the photos": records.sizes,
        "numbers of boxes": snapshot.box_counts,
        "classes of the boxes": records.classes,
        "annotations": snapshot.annotations,
        "names or sizes of the files": np.stack([snapshot.names, snapshot.file_sizes.astype(np.uint64)]),
    }
    facts = {"photos": str(len(records)), "boxes": str(int(snapshot.box_counts.sum()))}
    facts |= {what: _hashed(array.tobytes()) for what, array in values.items()}
    facts["classes"] = _hashed(repr((dataset.category_ids, dataset.class_names)))
    facts["annotations or crowd regions"] = _hashed(snapshot.digest)
    return {f"{what} of the {name}": text for what, text in facts.items()}


def start_facts(config, state, dataset):
    """{what: text} of what a run begins with, once its model is made.

    Args:
        config: Config.
        state: TrainingState.
        dataset: Dataset, with the truth fields that the model needs.
    """
    digest = hashlib.blake2b(digest_size=8)
    for variable in [*state.model.weights, *state.optimizer.variables]:
        digest.update(np.asarray(variable).tobytes())
    facts = {key: _short(value) for key, value in _flat(config_lib.to_dict(config)) if key in PLACES}
    facts |= {"step": str(state.step), "weights to begin with": f"{HASHED}{digest.hexdigest()}"}
    if dataset.truth_fields:
        facts |= data_facts(dataset, "training data", config.data.segments)
    return facts


def _named(key, value, of_first):
    """`key=value (worker 0: value)`, or the key alone where the values are hashes."""
    if str(value).startswith(HASHED) or str(of_first).startswith(HASHED):
        return f"other {key}"
    return f"{key}={value} (worker 0: {of_first})"


def _flat(section, prefix=""):
    """Yields (dotted key, value) of nested dicts."""
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else _hashed(text)


def _hashed(data):
    data = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    return f"{HASHED}{hashlib.blake2b(data, digest_size=8).hexdigest()}"


def _software(get_model):
    """{what: text}: versions, and the sources of the package and of an experiment's own parts."""
    facts = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for package in PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "absent"
    facts |= {name: os.environ.get(name, "unset") for name in SWITCHES}
    facts["fpn_tf"] = fpn_tf.__version__
    root = pathlib.Path(fpn_tf.__file__).parent
    sources = [(p.relative_to(root).as_posix(), p.read_bytes()) for p in sorted(root.rglob("*.py"))]
    facts["source files of fpn_tf"] = _hashed(repr(sources))
    if get_model is not None:
        facts["file of the experiment"] = _hashed(_source_of(get_model))
    return facts


def _source_of(function):
    """The text of the file that a function stands in; "" where it stands in none."""
    try:
        return pathlib.Path(inspect.getsourcefile(function)).read_text("utf-8", "replace")
    except (OSError, TypeError):
        return ""
