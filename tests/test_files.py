"""Text is UTF-8 whatever the locale; JSON comes in every encoding that it may have."""

import ast
import io
import json
import os
import pathlib
import subprocess
import sys

import pytest

import fpn_tf
from fpn_tf import command, files
from fpn_tf import config as config_lib
from fpn_tf.errors import DataError

VALUE = {"name": "größe 赤血球 🟦", "ids": [1, 2]}
TEXT = json.dumps(VALUE, ensure_ascii=False)
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"],
)
def test_json_in_every_encoding(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes(TEXT.encode(encoding))
    assert files.read_json(tmp_path / "a.json") == VALUE


def test_a_config_that_an_editor_gave_a_byte_order_mark(tmp_path):
    config = config_lib.replace(config_lib.Config(), **{"data.class_names": ("größe",)})
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "config.json").write_text(
            json.dumps(config_lib.to_dict(config), ensure_ascii=False), encoding
        )
        assert config_lib.load(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"\xef\xbb\xbf", "Expecting value"),
        (b'{"a": 1', "Expecting ',' delimiter"),
        (b'{"a": 1}\n{"a": 2}\n', "Extra data"),
        ('{"name": "größe"}'.encode("latin-1"), "byte 12 is 0xf6, no utf-8; expected text in UTF-8"),
        (b"\x1f\x8b\x08\x00rest", "byte 1 is 0x8b, no utf-8"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"1" * 5000, "Exceeds the limit"),
        (TEXT.encode("utf-16")[:-1], "no utf-16"),
    ],
)
def test_what_is_no_json_is_told_in_one_line(tmp_path, data, message):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        files.read_json(path)
    assert str(caught.value).startswith(f"{path}: not valid JSON (")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_a_character_is_written_and_read_again(tmp_path):
    """JSON may hold half of a pair, "\\ud83d", which UTF-8 does not have."""
    value = json.loads('{"name": "\\ud83d"}')
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value
    files.write_text(tmp_path / "a.md", value["name"])
    assert (tmp_path / "a.md").read_bytes() == b"\\ud83d"


def test_in_another_locale_files_are_the_same(tmp_path):
    """Names of files in UTF-8 are reached, texts are written in UTF-8, the terminal gets what it can show."""
    (tmp_path / "größe.txt").write_bytes(b"content")
    program = (
        "import pathlib, sys\n"
        "from fpn_tf import files\n"
        "from fpn_tf.command import replace_unprintable\n"
        "assert sys.getfilesystemencoding() == 'ascii'\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "assert files.path_in(folder, 'gr\\xf6\\xdfe.txt').read_bytes() == b'content'\n"
        "files.write_text(folder / 'out.txt', 'gr\\xf6\\xdfe')\n"
        "path = files.path_in(folder, 'gr\\xf6\\xdfe.txt')\n"
        "assert files.path_for_tensorflow(path) == sys.argv[1] + '/gr\\xf6\\xdfe.txt'\n"
        "replace_unprintable()\n"
        "print('gr\\xf6\\xdfe', files.path_in(folder, 'gr\\xf6\\xdfe.txt').name)\n"
    )
    root = pathlib.Path(fpn_tf.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, **ASCII_LOCALE, "PYTHONPATH": str(root)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"gr??e gr????e.txt\n"
    assert (tmp_path / "out.txt").read_bytes() == "größe".encode()


def test_half_a_character_names_no_file(tmp_path):
    assert not files.path_in(tmp_path, "\ud83d.png").is_file()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_what_a_terminal_cannot_show_is_replaced(monkeypatch, encoding):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding, "strict"))
    command.replace_unprintable()
    shown = TEXT + "\ud83d"  # half a character, as a JSON file may hold it
    for stream in (sys.stdout, sys.stderr):
        print(shown, end="", file=stream, flush=True)
        assert stream.buffer.getvalue() == shown.encode(encoding, "replace")


def test_a_stream_of_another_kind_stays_as_it_is(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    command.replace_unprintable()
    print(TEXT, end="")
    assert stream.getvalue() == TEXT


def test_no_file_is_opened_in_the_encoding_of_the_locale():
    """Every `open`, `read_text` and `write_text` of the package names an encoding, or bytes."""
    package, unnamed = pathlib.Path(fpn_tf.__file__).parent, []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and _is_in_the_locale(node):
                unnamed.append(f"{path.relative_to(package)}:{node.lineno}")
    assert not unnamed


def _is_in_the_locale(call):
    if isinstance(call.func, ast.Attribute):
        positions = {"read_text": 0, "write_text": 1}
        if call.func.attr not in positions or ast.unparse(call.func.value) == "files":
            return False
        named = len(call.args) > positions[call.func.attr]
    elif isinstance(call.func, ast.Name) and call.func.id == "open":
        named = len(call.args) > 1 and "b" in ast.unparse(call.args[1])
    else:
        return False
    return not named and not any(keyword.arg == "encoding" for keyword in call.keywords)
