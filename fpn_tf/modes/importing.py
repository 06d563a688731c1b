"""`--mode=import_weights`: a model_dir made of a detector's weights."""

from fpn_tf.pretrained.loading import load
from fpn_tf.pretrained.model_dir import check_new, write_model_dir
from fpn_tf.training.preparation import check_writable
from fpn_tf.training.progress import console


def import_weights(weights, model_dir, overrides):
    """Makes a model_dir of a detector's weights, from this project or another library.

    Args:
        weights: path of the file.
        model_dir: the folder to make; it holds no run yet.
        overrides: `dotted.key=value` texts.
    """
    check_writable(model_dir)
    check_new(model_dir)
    model = load(weights, overrides)
    write_model_dir(model, model_dir)
    settings = model.config.model
    console.print(
        f"imported {weights}: {settings.backbone}, {settings.num_classes} classes, "
        f"{model.count_params():,} numbers -> {model_dir}"
    )
