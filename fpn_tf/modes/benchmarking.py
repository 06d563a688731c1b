"""`--mode=benchmark`: the time of every stage of a detector."""

import pathlib

from fpn_tf import files, stage_times
from fpn_tf.errors import ConfigError
from fpn_tf.training.preparation import check_writable
from fpn_tf.training.progress import console


def benchmark(config, model_dir, size, batch_sizes, precisions, repeats):
    """Times the stages of a config's detector; tables on the screen, benchmark.json in `model_dir`.

    Args:
        config: Config.
        model_dir: the folder to write to.
        size: (height, width) of the images in pixels, multiples of 32.
        batch_sizes: numbers of images at a time.
        precisions: values of `train.precision`.
        repeats: how often each stage is timed.

    Raises:
        ConfigError: the config leaves the number of classes to a data set, and benchmark opens none.
    """
    check_writable(model_dir)
    if not config.model.num_classes:
        raise ConfigError("model.num_classes=0: --mode=benchmark opens no data; expected a number of classes")
    measurements = stage_times.benchmark(config, size, batch_sizes, precisions, repeats)
    for table in stage_times.tables(measurements):
        console.print(table)
    path = pathlib.Path(model_dir) / "benchmark.json"
    files.write_json(path, measurements)
    console.print(f"written: {path}")
