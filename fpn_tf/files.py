"""Files are written beside and renamed: what was there before stays whole until the new one is.

Text is UTF-8, whatever the locale; JSON is read with a clear error; glob patterns know the names that exist.
"""

import contextlib
import glob
import json
import os
import pathlib
import tempfile
import zlib

from fpn_tf.errors import DataError

PROBE_BYTES = 4096  # a full disk may still take an empty file


def expanded(path):
    """A path as text, a leading `~` or `~user` replaced by that home folder.

    A shell does it for a word that begins so, but not behind `--flag=`.
    """
    return os.path.expanduser(os.fspath(path))


@contextlib.contextmanager
def named_in_errors(path):
    """A context whose OSErrors name the file; those of writing and flushing name none by themselves."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


@contextlib.contextmanager
def written_whole(path):
    """Yields a path to write to; on success it takes the place of `path` in one step.

    Raises:
        OSError: it names `path`.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A number for the name, which may be as long as a name may be.
    number = zlib.crc32(os.fsencode(path.name))
    beside = path.with_name(f".{number:08x}.{os.getpid()}.part{path.suffix}")
    try:
        with named_in_errors(path):
            yield beside
            os.replace(beside, path)
    except OSError as error:
        if error.filename == os.fspath(beside):
            error.filename = os.fspath(path)
        raise
    finally:
        beside.unlink(missing_ok=True)


def check_writable(folder):
    """Writes a block in a folder, or in that which it will be made in; nothing is left of it.

    Raises:
        OSError: it cannot be written; the error names the folder.
    """
    path = pathlib.Path(folder).absolute()
    existing = next(place for place in (path, *path.parents) if os.path.lexists(place))
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
    except OSError as error:
        error.filename = os.fspath(existing)
        raise


def write_bytes(path, data):
    """Writes bytes that are on the disk, not on their way to it, once this returns; whole or not at all."""
    with written_whole(path) as beside, open(beside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_text(path, text):
    """Writes a text in UTF-8, whole or not at all."""
    write_bytes(path, text.encode(errors="backslashreplace"))  # JSON may hold half characters


def write_json(path, value, indent=2):
    """Writes `value` as JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def read_json(path):
    """What a JSON file holds. Raises: DataError where it is absent or no JSON."""
    try:
        with opened_json(path) as file:
            return json_of(file.read())
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from None


@contextlib.contextmanager
def opened_json(path):
    """A context with a JSON file, open for its bytes. Raises: DataError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a JSON file") from None


def paths_matching(pattern):
    """The paths that match a glob pattern, or the one that is named so; sorted.

    Brackets are letters where they stand in the name of a folder or file that exists, or nothing matches
    otherwise.
    """
    if os.path.exists(pattern):
        return [pathlib.Path(pattern)]
    parts = pathlib.Path(pattern).parts
    existing = max((n for n in range(len(parts)) if os.path.exists(os.path.join("", *parts[:n]))), default=0)
    folder, rest = os.path.join("", *parts[:existing]), os.path.join("", *parts[existing:])
    escaped = os.path.join(glob.escape(folder), "")
    for of_rest in (rest, rest.replace("[", "[[]")):
        paths = glob.glob((escaped if folder else "") + of_rest, recursive=True)
        if paths:
            return sorted(map(pathlib.Path, paths))
    return []


def json_of(data):
    """What the bytes of a JSON file hold.

    Args:
        data: bytes in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Raises:
        ValueError: the reason why they are no JSON.
    """
    if not data.strip():
        raise ValueError("the file is empty")
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte {error.start} is 0x{data[error.start]:02x}, no {error.encoding}; expected text in UTF-8"
        ) from None
    except RecursionError:
        raise ValueError("its brackets are nested too deep") from None


def path_in(folder, name):
    """The path of a file in a folder, as a UTF-8 text such as JSON names it.

    The file's name is taken for UTF-8 as well, also where the locale has another encoding of names.

    Args:
        folder: pathlib.Path.
        name: text, a relative path.
    """
    try:
        return folder / os.fsdecode(name.encode(errors="surrogateescape"))
    except UnicodeEncodeError:  # half a character, which no file name holds
        return folder / name


def path_for_tensorflow(path):
    """The text that TensorFlow, which takes all paths for UTF-8, finds a path under in every locale."""
    return os.fsencode(path).decode(errors="surrogateescape")
