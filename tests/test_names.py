"""What docstrings, comments and pages name exists."""

import ast
import importlib
import io
import pathlib
import re
import tokenize

import fpn_tf

ROOT = pathlib.Path(fpn_tf.__file__).parent.parent
SOURCES = [p for folder in ("fpn_tf", "experiments", "tests") for p in sorted((ROOT / folder).rglob("*.py"))]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
NAMES_THE_PAST = {"CHANGELOG.md", "tests/test_types.py"}  # or a misspelt name, on purpose
ELSEWHERE = {  # names of programs, Keras, torchvision and Detectron2 that stand in no line of code here
    *("srun", "codecs"),
    *("MobileNetV3Large", "convnext_tiny", "batch_size_per_image", "WarmupMultiStepLR", "WarmupCosineLR"),
}


def resolves(dotted):
    """Whether a dotted name is a module, or an attribute of one."""
    parts = dotted.split(".")
    value, module = fpn_tf, parts[0]
    for part in parts[1:]:
        module = f"{module}.{part}"
        if not hasattr(value, part):
            try:
                importlib.import_module(module)
            except ImportError:
                return False
        value = getattr(value, part)
    return True


def test_every_dotted_name_resolves():
    missing = {}
    for path in [*SOURCES, *PAGES]:
        file = path.relative_to(ROOT).as_posix()
        names = set(re.findall(r"(?<![\w/.])fpn_tf(?:\.[A-Za-z_]\w*)+", path.read_text()))
        gone = {name for name in names if not resolves(name)}
        if gone and file not in NAMES_THE_PAST:
            missing[file] = gone
    assert not missing


def prose_of(source):
    """The comments and docstrings of a Python file."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def identifiers_of(source):
    """Every name, attribute, argument, keyword and short text in the code of a Python file."""
    nodes = list(ast.walk(ast.parse(source)))
    docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if node in docstrings:
            continue
        for field in ("id", "attr", "arg", "name", "asname", "module", "value"):
            text = getattr(node, field, None)
            if isinstance(text, str) and len(text) < 80:
                yield from re.findall(r"\w+", text)


def test_every_quoted_name_stands_in_the_code():
    """Of docstrings and comments; a name with a number at its end is an example."""
    sources = [path for path in SOURCES if path.parent.name != "compatibility"]  # which quotes the past
    identifiers = {word for path in SOURCES for word in path.relative_to(ROOT).with_suffix("").parts}
    identifiers |= {name for path in SOURCES for name in identifiers_of(path.read_text())} | ELSEWHERE
    missing = {}
    for path in sources:
        for prose in prose_of(path.read_text()):
            for quoted in re.findall(r"`([A-Za-z_][\w.]*[A-Za-z0-9])(?:\([^`]*)?`", prose):
                if not set(quoted.split(".")) <= identifiers and not re.search(r"_\d+$", quoted):
                    missing.setdefault(path.relative_to(ROOT).as_posix(), set()).add(quoted)
    assert not missing
