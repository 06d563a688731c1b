"""How a part that holds other parts is saved."""

import keras


def part_config(part):
    """A part (or a list of them) as Keras serialises it, to be built again by the model that it joins.

    Keras would build it while it reads it; the model does so once more, and a layer is built once.
    """
    if isinstance(part, list | tuple):
        return [part_config(each) for each in part]
    values = keras.saving.serialize_keras_object(part)
    if isinstance(values, dict):
        values.pop("build_config", None)
    return values
