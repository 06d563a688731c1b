"""What a type checker and an editor know after `import fpn_tf` alone."""

import ast
import pathlib
import re

import pytest

import fpn_tf

USE = """
import fpn_tf

model = fpn_tf.FasterRCNN(backbone="resnet50", num_classes=3, preprocessor=fpn_tf.Preprocessor(320, 533))
[detections] = model.detect(["photo.png"], score_threshold=0.5)
reveal_type(model)  # FasterRCNN
reveal_type(model.num_classes)  # int
reveal_type(detections[detections.scores > 0.8])  # Detections
reveal_type(detections.names)  # list[str]
reveal_type(detections.draw("photo.png"))  # Image
reveal_type(fpn_tf.batches("train.json", "photos", preprocessor=model.preprocessor))  # Batches
reveal_type(fpn_tf.evaluate(model, "val.json", "photos"))  # dict[str, Any]
reveal_type(fpn_tf.load("runs/shapes").detect([]))  # list[Detections]
reveal_type(fpn_tf.build(fpn_tf.Config()).preprocessor.short_side)  # int
reveal_type(fpn_tf.Config().train.peak_learning_rate)  # float
"""
MISTAKES = {  # line -> what is said of it
    'fpn_tf.FasterRCNN(num_classes="three")': 'incompatible type "str"; expected "int | None"',
    "fpn_tf.Preprocessor(short=320)": 'Unexpected keyword argument "short"',
    "fpn_tf.load(3)": 'incompatible type "int"; expected "str | PathLike[str]"',
    "fpn_tf.TrainConfig(step=10)": 'Unexpected keyword argument "step"',
    "fpn_tf.FastaRCNN()": 'Module has no attribute "FastaRCNN"',
}


@pytest.fixture(scope="module")
def said_of_line(tmp_path_factory):
    """{line of the two above: what mypy says of it}."""
    api = pytest.importorskip("mypy.api")
    folder, root = tmp_path_factory.mktemp("types"), pathlib.Path(fpn_tf.__file__).parent.parent
    lines = [*USE.splitlines(), *MISTAKES]
    (folder / "script.py").write_text("\n".join(lines))
    options = [f"--config-file={root / 'pyproject.toml'}", f"--cache-dir={folder / 'cache'}"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MYPYPATH", str(root))
        said, failure, _ = api.run([*options, str(folder / "script.py")])
    assert not failure
    remarks = re.findall(r"script\.py:(\d+): (?:error: |note: (?=Revealed))(.*)", said)
    return {lines[int(number) - 1]: text for number, text in remarks}


def test_nothing_else_is_remarked(said_of_line):
    assert set(said_of_line) == {*MISTAKES, *(line for line in USE.splitlines() if "reveal_type" in line)}


@pytest.mark.parametrize("line", [line for line in USE.splitlines() if "reveal_type" in line])
def test_names_have_their_types(line, said_of_line):
    revealed = re.search(r'Revealed type is "(.*)"', said_of_line[line])[1]
    assert re.sub(r"\b(?:\w+\.)+(?=\w)", "", revealed) == line.rpartition("# ")[2]


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_noticed(line, said_of_line):
    assert MISTAKES[line] in said_of_line[line]


def test_a_type_checker_is_told_where_programs_find_the_names():
    tree = ast.parse(pathlib.Path(fpn_tf.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    assert {name.name: node.module for node in block.body for name in node.names} == fpn_tf._HOMES


def test_the_package_says_that_it_has_types():
    assert (pathlib.Path(fpn_tf.__file__).parent / "py.typed").exists()
