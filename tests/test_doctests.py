"""Every public name has types, arguments and an example, and the examples run."""

import doctest
import inspect
import os

import keras
import numpy as np
import pytest
from conftest import make_readers_folder
from test_help import arguments_of

import fpn_tf
from fpn_tf.data.photo_batches import Batches

PUBLIC = {name: getattr(fpn_tf, name) for name in fpn_tf.__all__}
WITHOUT_TYPES = {  # Keras calls them, and says what they take
    *("build", "build_hidden", "build_stages", "call", "get_config", "from_config", "compile_from_config"),
    *("train_step", "compute_loss", "compute_metrics", "compute_output_shape", "compute_output_spec"),
}


def public_functions():
    """(its name, a function or method of this project that a user may call)."""
    for public in [*PUBLIC.values(), Batches]:
        if not inspect.isclass(public):
            yield public.__name__, public
            continue
        for owner in public.__mro__:
            if not owner.__module__.startswith("fpn_tf."):
                continue
            for name, member in vars(owner).items():
                function = getattr(member, "__func__", getattr(member, "fget", member))
                is_public = not name.startswith("_") or name in ("__init__", "__len__", "__getitem__")
                if inspect.isfunction(function) and is_public and name not in WITHOUT_TYPES:
                    yield f"{owner.__name__}.{name}", function


def is_typed(function):
    """Whether all arguments but `self` are annotated, and the result unless it is an `__init__`."""
    signature = inspect.signature(function)
    arguments = [p for name, p in signature.parameters.items() if name not in ("self", "cls")]
    has_result = function.__name__ == "__init__" or signature.return_annotation is not signature.empty
    return has_result and all(p.annotation is not p.empty for p in arguments)


@pytest.fixture(scope="module")
def folder_of_a_reader(tmp_path_factory):
    """The current directory of the examples."""
    before, folder = os.getcwd(), make_readers_folder(tmp_path_factory.mktemp("reader"))
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_examples_run(name, folder_of_a_reader):
    public, scope = PUBLIC[name], {"fpn_tf": fpn_tf, "keras": keras, "np": np}
    examples = [test for test in doctest.DocTestFinder().find(public, name, globs=scope) if test.examples]
    assert examples[0].name == name, "it has no example"
    failures = []
    for test in examples:
        doctest.DocTestRunner().run(test, out=failures.append)
    assert not failures, "".join(failures)


@pytest.mark.parametrize("name", [name for name in PUBLIC if not name.endswith("Error")])
def test_every_argument_is_documented(name):
    public = PUBLIC[name]
    made_by_init = inspect.isclass(public) and not issubclass(public, tuple)  # Keras' __new__ takes anything
    signature = inspect.signature(public.__init__ if made_by_init else public)
    stars = {inspect.Parameter.VAR_KEYWORD: "**"}
    arguments = [stars.get(p.kind, "") + p.name for p in signature.parameters.values() if p.name != "self"]
    assert sorted(arguments_of(public)) == sorted(arguments)


def test_every_public_function_has_types():
    functions = dict(public_functions())
    assert len(functions) > 80
    assert [name for name, function in functions.items() if not is_typed(function)] == []
