"""What `help(fpn_tf)` and `help` of a section of the config show, and that it is so."""

import dataclasses
import pydoc
import re
import subprocess
import sys

import pytest

import fpn_tf

SECTIONS = {  # dotted key of a section -> its class
    "model": fpn_tf.ModelConfig,
    "model.rpn": fpn_tf.RPNConfig,
    "model.roi": fpn_tf.ROIConfig,
    "model.segment": fpn_tf.SegmentConfig,
    "data": fpn_tf.DataConfig,
    "train": fpn_tf.TrainConfig,
    "eval": fpn_tf.EvalConfig,
    "export": fpn_tf.ExportConfig,
}


def arguments_of(documented):
    """{name: text} of the Args section of a docstring."""
    section = re.search(r"\n( *)Args:\n((?:\1 +.*\n|\n)*)", documented.__doc__ + "\n")
    if section is None:
        return {}
    indent = " " * (len(section[1]) + 4)
    entries = re.split(rf"^{indent}(?=\S)", section[2], flags=re.MULTILINE)[1:]
    pairs = (entry.split(":", 1) for entry in entries)
    return {name: " ".join(text.split()) for names, text in pairs for name in names.split(", ")}


# The keys of the config ---------------------------------------------------------------------------


@pytest.mark.parametrize("section", [*SECTIONS.values(), fpn_tf.Config])
def test_every_key_is_documented(section):
    assert list(arguments_of(section)) == [field.name for field in dataclasses.fields(section)]


def test_help_of_a_section_shows_defaults_units_and_bounds():
    text = pydoc.plain(pydoc.render_doc(fpn_tf.RPNConfig))
    assert "samples: int = 256" in text
    assert "samples: anchors per image that the losses see, at least 1." in text


BOUNDS = (  # what a text says of a number -> numbers that are refused
    (r"at least (\d)", lambda low: [int(low) - 1]),
    (r"\b(\d) or more", lambda low: [int(low) - 1]),
    (r"\b(\d)\.\.(\d)\b", lambda low, high: [int(low) - 1, int(high) + 1]),
    (r"at most (\d)", lambda high: [int(high) + 1]),
    (r"below (\d)", lambda limit: [int(limit)]),
    (r"(?:positive|above 0)", lambda: [0, -1]),
)


def refused_numbers():
    """(dotted key, its field, a number out of the bounds that its text states)."""
    for prefix, section in SECTIONS.items():
        texts = arguments_of(section)
        for field in dataclasses.fields(section):
            for pattern, numbers in BOUNDS:
                for stated in re.finditer(pattern, texts[field.name]):
                    for number in numbers(*stated.groups()):
                        yield f"{prefix}.{field.name}", field, number


@pytest.mark.parametrize(("key", "field", "number"), [pytest.param(*c, id=c[0]) for c in refused_numbers()])
def test_the_bounds_are_those_of_the_text(key, field, number):
    count = 3 if key == "model.pixel_std" else len(field.default) if isinstance(field.default, tuple) else 0
    is_list = "tuple" in str(field.type)
    value = (number,) * max(count, 1) if is_list else number
    with pytest.raises(fpn_tf.ConfigError, match=re.escape(f"{key}={value}: expected")):
        SECTIONS[key.rpartition(".")[0]](**{field.name: value}).validate()


def test_enough_bounds_are_stated():
    assert len({key for key, *_ in refused_numbers()}) > 55


# help(fpn_tf) -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def help_of_fpn_tf():
    """What `help(fpn_tf)` prints where nothing has imported Keras before."""
    script = "import fpn_tf, pydoc; print(pydoc.plain(pydoc.render_doc(fpn_tf)))"
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout


def listed_names():
    """{public name: its line} in the docstring of the package."""
    return dict(re.findall(r"^    (\w+) +(\S.*)$", fpn_tf.__doc__, re.MULTILINE))


def test_the_first_page_lists_every_public_name(help_of_fpn_tf):
    first_page, _, rest = help_of_fpn_tf.partition("PACKAGE CONTENTS")
    assert set(listed_names()) == set(fpn_tf.__all__)
    assert all(line in first_page for line in listed_names().values())
    for name in fpn_tf.__all__:
        assert getattr(fpn_tf, name).__doc__.splitlines()[0] in rest, name


def test_a_part_may_be_what_imports_keras():
    """Or its module, half imported, would be imported by what registers the classes."""
    script = (
        "from fpn_tf.preprocessing import Preprocessor; import keras; "
        "print(keras.saving.get_registered_object('fpn_tf>FasterRCNN').__name__)"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert ended.stdout == "FasterRCNN\n"
