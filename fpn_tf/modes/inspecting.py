"""`--mode=inspect`: what the data sets of a config hold."""

import pathlib

from fpn_tf import inspection
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.training.preparation import check_writable
from fpn_tf.training.progress import console


def inspect(config, model_dir):
    """Prints what the data sets of a config hold and what is doubtful about them.

    Args:
        config: Config.
        model_dir: the folder whose `inspect/` receives numbers and pictures.
    """
    check_writable(model_dir)
    folder = pathlib.Path(model_dir) / "inspect"
    for split in ("train", "eval"):
        if not (config.data.folder or getattr(config.data, f"{split}_annotations") or config.data.tfds_name):
            continue
        dataset = open_dataset(config.data, split)
        survey, paths = inspection.inspect(dataset, config, folder, split)
        console.print(f"{split}:")
        for table in inspection.tables(survey):
            console.print(table)
        for note in [*dataset.notes, *(survey.findings or ["nothing doubtful"])]:
            console.print(f"note: {note}")
        console.print(f"written: {', '.join(map(str, paths))}\n")
