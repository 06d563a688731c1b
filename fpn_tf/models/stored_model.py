"""How a detector is saved and exported: Keras' hooks for files."""

import os
from typing import Any

import keras

from fpn_tf.models.old_calls import model_of_old_archive
from fpn_tf.models.serialization import part_config
from fpn_tf.preprocessing import Preprocessor

EXPORTED = ("tf_saved_model",)  # Keras' name of the format that `export` writes
HDF5 = (".h5", ".hdf5")


class StoredModel(keras.Model):
    """A model of parts, the attributes `part_names`, which are saved one by one."""

    part_names: tuple[str, ...]
    preprocessor: Preprocessor
    _compiled_detector: Any
    is_served = False  # whether it detects on photos alone, and what it gives can be exported

    def __dir__(self):
        # Keras saves the weights under the first of these names that leads to them: not under `layers`,
        # whose entries go by their classes, but under the names of the parts.
        return [name for name in super().__dir__() if name not in ("layers", "stages")]

    def get_config(self):
        parts = {name: part_config(getattr(self, name)) for name in self.part_names}
        preprocessor = keras.saving.serialize_keras_object(self.preprocessor)
        dtype = keras.saving.serialize_keras_object(self.dtype_policy)
        modes = {str(i): layer.quantization_mode for i, layer in enumerate(self._flatten_layers())}
        quantized = {number: mode for number, mode in modes.items() if mode}  # number of the layer -> mode
        settings = parts | {"preprocessor": preprocessor, "name": self.name, "dtype": dtype}
        return settings | ({"quantized": quantized} if quantized else {})

    @classmethod
    def from_config(cls, config):
        if "config" in config:  # of the version before
            return model_of_old_archive(config)
        quantized = config.get("quantized", {})
        settings = {name: value for name, value in config.items() if name != "quantized"}
        model = cls(**keras.saving.deserialize_keras_object(settings))
        model.build(None)
        layers = list(model._flatten_layers())
        for number, mode in quantized.items():
            layers[int(number)].quantize(mode)
        return model

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.quantize`; what was compiled for `detect` before is compiled anew."""
        super().quantize(*args, **kwargs)
        self._compiled_detector = None

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.save`. Raises: ValueError for HDF5, from which Keras could not read it."""
        if os.fspath(filepath).endswith(HDF5):
            raise ValueError(
                f"{filepath}: Keras reads no models of parts from HDF5; expected a path that ends in .keras, "
                "or model.save_weights and .weights.h5 for the weights alone"
            )
        super().save(filepath, *args, **kwargs)

    def export(self, filepath: Any, format: str = "tf_saved_model", **kwargs: Any) -> None:
        """Writes a SavedModel that takes files of photos, see `fpn_tf.exporting.saved_model.write`.

        Differs from `keras.Model.export`: the signatures are given, and no other format is written.

        Args:
            filepath: the folder to write.
            format: "tf_saved_model".
            **kwargs: `verbose` is taken, and shows nothing; `platform` and `max_pixels` as in
                `fpn_tf.ExportConfig`.

        Raises:
            ValueError: another format, argument or backend, or a model that does not detect on photos alone.
        """
        if format not in EXPORTED:
            raise ValueError(f"format={format!r}: expected {' or '.join(EXPORTED)}")
        unknown = set(kwargs) - {"verbose", "platform", "max_pixels"}
        if unknown:
            given = ", ".join(sorted(unknown))
            raise ValueError(f"{given}: expected none; an export takes files of photos, or a batch of them")
        if not self.is_served:
            raise ValueError(f"{type(self).__name__}: is not exported; expected a FasterRCNN or RPN")
        if keras.config.backend() != "tensorflow":
            raise ValueError(f"Keras runs on {keras.config.backend()}: expected tensorflow for an export")
        from fpn_tf.exporting import saved_model

        saved_model.write(self, filepath, **{k: v for k, v in kwargs.items() if k != "verbose"})
