"""`--mode=train`: training alone."""

from fpn_tf.training import loop
from fpn_tf.training.preparation import prepared


def train(config, model_dir, get_model=None):
    """Trains in `model_dir`, going on from its newest checkpoint.

    Args:
        config: Config.
        model_dir: the folder of the run.
        get_model: config -> model, of an experiment that has parts of its own, or None.
    """
    with prepared(config, model_dir) as (cluster, config, dataset):
        loop.train(config, dataset, model_dir, cluster, get_model=get_model)
