"""Changing a Config by dotted keys, and reading and writing it as JSON."""

import dataclasses
import json
import pathlib
import types
import typing

from fpn_tf import files
from fpn_tf.catalogue import APPLICATIONS
from fpn_tf.config import old_names
from fpn_tf.config.data_sources import check_given
from fpn_tf.config.network import PIXELS, check
from fpn_tf.config.run import Config
from fpn_tf.errors import ConfigError


def replace(config, **changes):
    """A copy of `config` with dotted keys changed: `replace(c, **{"train.steps": 10})`."""
    renamed = []
    for old_key, old_value in changes.items():
        key, value = old_names.today(old_key, old_value)
        if key != old_key:
            renamed.append(f"{old_key} is {key} now")
        elif _as_text(value) != _as_text(old_value):
            renamed.append(f"{key}={_as_text(old_value)} is {_as_text(value)} now")
        config = _replace_at(config, key.split("."), value, key)
    if renamed:
        old_names.note(", ".join(renamed))
    return config


def _as_text(value):
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def _replace_at(section, path, value, key):
    name, *rest = path
    names = [f.name for f in dataclasses.fields(section)]
    if name not in names:
        raise ConfigError(f"{key}: no such key; expected one of {', '.join(names)} where '{name}' stands")
    current = getattr(section, name)
    if rest:
        check(dataclasses.is_dataclass(current), f"{key}: '{name}' is a value, not a section")
        return dataclasses.replace(section, **{name: _replace_at(current, rest, value, key)})
    check(not dataclasses.is_dataclass(current), f"{key}: is a section; expected one of its keys")
    expected = typing.get_type_hints(type(section))[name]
    return dataclasses.replace(section, **{name: _typed(value, expected, key)})


def _typed(value, expected, key):
    """`value`, from a flag's text or from JSON, as the type that the field declares."""
    if isinstance(expected, types.UnionType):  # T | None
        if value is None or value == "none":
            return None
        expected = typing.get_args(expected)[0]
    if typing.get_origin(expected) is tuple:
        item = typing.get_args(expected)[0]
        if isinstance(value, str):
            value = [part for part in value.strip("[]() ").replace(" ", "").split(",") if part]
        check(isinstance(value, list | tuple), f"{key}={value}: expected a list of {item.__name__}")
        return tuple(_typed(part, item, key) for part in value)
    if expected is bool:
        words = {"true": True, "1": True, "false": False, "0": False}
        truth = words.get(str(value).lower())
        check(truth is not None, f"{key}={value}: expected true or false")
        return truth
    if expected is str:
        check(isinstance(value, str), f"{key}={value}: expected text")
        return value
    try:
        number = expected(value)
        if isinstance(value, float | bool) and (isinstance(value, bool) or number != value):
            raise ValueError
    except (TypeError, ValueError):
        kind = "a whole number" if expected is int else "a number"
        raise ConfigError(f"{key}={value}: expected {kind}") from None
    check(abs(number) < float("inf"), f"{key}={value}: expected a finite number")
    return number


def override(config, assignments):
    """Applies `dotted.key=value` texts in order and validates the result.

    Args:
        config: Config.
        assignments: e.g. `["train.steps=10", "data.train_short_sides=640,800"]`.

    Raises:
        ConfigError: an unknown key, a wrong type or a bad value, or data that would not be read, in one
            line.
    """
    for key, value in _pairs(assignments):
        config = replace(config, **{key: value})
    config.validate()
    check_given(config.data, [old_names.today(key, value)[0] for key, value in _pairs(assignments)])
    return config


def value_given(assignments, key):
    """The text that `dotted.key=value` texts give a key at last; None where they do not name it."""
    values = [value for name, value in _pairs(assignments) if old_names.today(name, value)[0] == key]
    return values[-1] if values else None


def _pairs(assignments):
    """Yields (key, value) of `dotted.key=value` texts."""
    for text in assignments:
        key, equals, value = text.partition("=")
        check(equals, f"--params_override={text}: expected dotted.key=value")
        yield key.strip(), value.strip()


def to_dict(config):
    """`config` as nested dicts of plain values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(values):
    """The Config that `to_dict` wrote. Keys that are absent keep their defaults.

    Raises:
        ConfigError: an unknown key or a wrong type.
    """

    def flatten(section, prefix):
        for name, value in section.items():
            if isinstance(value, dict):
                yield from flatten(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    check(isinstance(values, dict), f"config: expected an object, found {type(values).__name__}")
    return replace(Config(), **dict(flatten(values, ""))).validate()


def save(config, path):
    """Writes `config` as JSON, whole or not at all."""
    files.write_json(path, to_dict(config))


def load(path):
    """Reads a `config.json`.

    Raises:
        ConfigError: the file or its folder is absent, it is no JSON, or holds a bad value.
    """
    path = pathlib.Path(files.expanded(path))
    if not path.is_file():
        raise ConfigError(_absence(path))
    try:
        values = files.json_of(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; expected the config.json of a model_dir") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON ({error})") from None
    try:
        return from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _absence(path):
    """What is wrong with a path that is no file, in words."""
    expected = "expected a model_dir, or the folder of one of its checkpoints"
    if path.parent.is_dir():
        return f"{path}: no such file; {expected}, with its config.json"
    return f"{path.parent}: {'is a file' if path.parent.exists() else 'no such folder'}; {expected}"


def differences(old, new):
    """{dotted key: (old value, new value)} where two configs differ."""

    def flat(section, prefix=""):
        for f in dataclasses.fields(section):
            value = getattr(section, f.name)
            if dataclasses.is_dataclass(value):
                yield from flat(value, f"{prefix}{f.name}.")
            else:
                yield f"{prefix}{f.name}", value

    old, new = (_settled(dict(flat(config))) for config in (old, new))
    return {key: (value, new[key]) for key, value in old.items() if value != new[key]}


def _settled(values):
    """{dotted key: value} of a config, with the pixel format of a ResNet where none is given."""
    if not values.get("model.backbone", values.get("backbone", "")).startswith(APPLICATIONS):
        for prefix in ("model.", ""):
            for name, value in PIXELS.items():
                if values.get(f"{prefix}{name}", ...) is None:
                    values[f"{prefix}{name}"] = value
    return values
