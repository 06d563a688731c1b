"""Whether the data that a user names is what a run reads.

A split is read from its annotation file where the config has one, else from `data.tfds_name`.
"""

from fpn_tf.errors import ConfigError

OF_FILES = ("root", "train_annotations", "train_images", "eval_annotations", "eval_images")
OF_TFDS = ("tfds_name", "tfds_dir", "tfds_train_split", "tfds_eval_split")


def check_given(data, keys):
    """Refuses a source of data that gives way to another one, which an experiment may have brought.

    Args:
        data: DataConfig, with the values that were given.
        keys: the dotted keys that were given.

    Raises:
        ConfigError: names the key, its value, the source that wins, and what to give besides.
    """
    given = [key for key in keys if key.startswith("data.") and getattr(data, key.removeprefix("data."))]
    for split in ("train", "eval"):
        annotations, images = f"data.{split}_annotations", f"data.{split}_images"
        file = getattr(data, f"{split}_annotations")
        for key in given:
            name = key.removeprefix("data.")
            told = f"{key}={getattr(data, name)}: the {split} split would be read from"
            if name in OF_FILES and not file and data.tfds_name:
                raise ConfigError(
                    f"{told} data.tfds_name={data.tfds_name}; expected {annotations} and {images} as well, "
                    "as --experiment=own_photos has them, or an empty data.tfds_name"
                )
            if name in OF_TFDS and file:
                raise ConfigError(
                    f"{told} {annotations}={file}; expected {annotations}= and {images}= (empty) as well"
                )
