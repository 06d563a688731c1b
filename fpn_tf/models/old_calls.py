"""Models made of a Config, as the version before made them; read for one release."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Init = TypeVar("Init", bound=Callable[..., None])


def accepts_config(init: Init) -> Init:
    """The `__init__` of a model that a Config may be given to in place of parts."""

    @functools.wraps(init)
    def init_of_parts_or_config(self, *parts, **named_parts) -> None:
        config = parts[0] if parts else named_parts.get("config")
        if not hasattr(config, "model"):
            init(self, *parts, **named_parts)
            return
        from fpn_tf import assemble
        from fpn_tf.config import old_names, replace

        old_names.note(f"{type(self).__name__}(config) is fpn_tf.build(config) now")
        config = replace(config, **{"model.kind": self.kind})
        init(self, **assemble.parts_of(config))
        assemble.settle(self, config)

    wrapped: Any = init_of_parts_or_config
    wrapped.__signature__ = inspect.signature(init)  # Keras reads the arguments' names
    return wrapped


def model_of_old_archive(values):
    """The model of a `.keras` archive of the version before, whose config is {"config": a Config's dict}."""
    from fpn_tf import assemble, old_files
    from fpn_tf.config import from_dict

    model = assemble.build(from_dict(values["config"]))
    old_files.read_old_archive_next(model)
    return model
