"""Whether the data that a user names is what a run reads.

Both splits are read from `data.folder` where the config has one; else each from its annotation file; else
from `data.tfds_name`.
"""

from fpn_tf.errors import ConfigError

OF_SOURCE = {  # source -> the keys of `data` that are read with it
    "folder": ("folder", "format", "holdout"),
    "annotations": ("root", "train_annotations", "train_images", "eval_annotations", "eval_images"),
    "tfds": ("tfds_name", "tfds_dir", "tfds_train_split", "tfds_eval_split"),
}
INSTEAD = {  # what is to be given besides, for a source to be read
    "folder": "expected data.folder={{a folder}} as well",
    "annotations": "expected data.{split}_annotations and data.{split}_images as well, as "
    "--experiment=own_photos has them, and no data.folder",
    "tfds": "expected data.{split}_annotations= and data.{split}_images= (empty) as well, and no data.folder",
}


def check_given(data, keys):
    """Refuses data that gives way to another source, which an experiment may have brought.

    Args:
        data: DataConfig, with the values that were given.
        keys: the dotted keys that were given.

    Raises:
        ConfigError: names the key, its value, the source that wins, and what to give besides.
    """
    for split in ("train", "eval"):
        source, key_that_wins = _source_of(data, split)
        for key in keys:
            name = key.removeprefix("data.")
            value = getattr(data, name, None) if key.startswith("data.") else None
            rival = next((each for each, names in OF_SOURCE.items() if name in names), source)
            if value and source and rival != source:
                raise ConfigError(
                    f"{key}={value}: the {split} split would be read from data.{key_that_wins}="
                    f"{getattr(data, key_that_wins)}; {INSTEAD[rival].format(split=split)}"
                )


def _source_of(data, split):
    """(source of a split, a key of OF_SOURCE; the key of `data` that makes it so); ("", "") without one."""
    for source, key in (("folder", "folder"), ("annotations", f"{split}_annotations"), ("tfds", "tfds_name")):
        if getattr(data, key):
            return source, key
    return "", ""
