"""A large JSON object read piece by piece: its lists of objects by types, the rest passed over."""

import codecs
import itertools
import json
import re

import msgspec

PIECE = 2**22  # bytes of JSON that are Python objects at a time
TRIES = 3  # places to end a piece that are tried
SPACE = rb"[ \t\n\r]*"
BEGINNING = re.compile(rb"(?:\xef\xbb\xbf)?" + SPACE + rb"\{")
KEY = re.compile(SPACE + rb'("(?:[^"\\]|\\.)*")' + SPACE + rb":" + SPACE)
COMMA, END = re.compile(SPACE + rb","), re.compile(SPACE + rb"\}" + SPACE + rb"\Z")
NO_ENTRIES = re.compile(SPACE + rb"\]")
GAP = re.compile(rb"\}" + SPACE + rb"(?:(?P<comma>,)(?=" + SPACE + rb"\{)|\])")  # behind an object in a list
LIST_END = re.compile(rb"\}" + SPACE + rb"\]")


class OddFileError(Exception):
    """The file is wrong, or right in a way that is not read fast."""


class OtherFormError(OddFileError):
    """The file is no object, or one without the lists that are looked for."""


def lists_in(file, entry_types, size=PIECE):
    """Yields (key, list of entries) for lists that members of an object are, piece by piece.

    Args:
        file: binary file, at its beginning; its text is one JSON object.
        entry_types: key -> the type of an entry, for msgspec; entries are objects. Other members of the
            object are passed over.
        size: bytes of a piece, about.

    Raises:
        OddFileError: the file is none such, or has a key twice; OtherFormError: it lacks one.
    """
    window, missing = _Window(file, size), set(entry_types)
    try:
        if not window.begins_with(BEGINNING):
            raise OtherFormError("no object")
        window.pass_over(BEGINNING)
        while True:
            key = json.loads(window.pass_over(KEY)[1])
            if key not in entry_types:
                window.pass_value()
            elif key not in missing:
                raise OddFileError(f"'{key}' is there twice")
            else:
                missing.remove(key)
                for entries in _entries(window, entry_types[key], size):
                    yield key, entries
            if not window.begins_with(COMMA):
                break
            window.pass_over(COMMA)
        window.read_to_end()
        window.pass_over(END)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise OddFileError(str(error)) from None
    if missing:
        raise OtherFormError(f"no {missing}")


def _entries(window, entry_type, size):
    """Yields the entries of the list that a window begins with, in lists.

    A piece begins with an entry, so what can be read as a whole ends with one: whether two objects are
    neighbours or lie within one entry need not be known before.
    """
    decoder = msgspec.json.Decoder(list[entry_type])
    window.pass_over(re.compile(rb"\["))
    if window.begins_with(NO_ENTRIES):
        window.pass_over(NO_ENTRIES)
        yield []
        return
    wanted, has_ended = size, False
    while not has_ended:
        window.fill(2 * size)
        gap, entries = _whole_piece(window.text, wanted, decoder)
        while entries is None and wanted:
            wanted //= 2  # the end of the list is nearer
            gap, entries = _whole_piece(window.text, wanted, decoder)
        if entries is None:
            raise OddFileError("a list cannot be read piece by piece")
        window.skip(gap.end())
        has_ended = gap["comma"] is None
        yield entries


def _whole_piece(text, wanted, decoder):
    """(match of GAP, entries before it) of a piece of `wanted` bytes or more, or of the last; or two None."""
    behind = itertools.islice(GAP.finditer(text, wanted), TRIES)
    for gap in itertools.chain(behind, _last_gap(text)):
        try:
            return gap, decoder.decode(b"[%b]" % memoryview(text)[: gap.start() + 1])
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:  # an entry goes on there
            continue
    return None, None


def _last_gap(text):
    """The match of GAP where the list may end, or one within an entry does, as a tuple; () without one."""
    end = LIST_END.search(text)
    return (GAP.match(text, end.start()),) if end else ()


class _Window:
    """The bytes of a file from a place on, as many as were read."""

    def __init__(self, file, size):
        self.text = b""
        self._file, self._size, self._at_end = file, size, False
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.fill(size)

    def fill(self, size):
        """Reads on until there are `size` bytes, or all. Raises: UnicodeDecodeError, if not UTF-8."""
        while len(self.text) < size and not self._at_end:
            part = self._file.read(max(self._size, size - len(self.text)))
            self._at_end = not part
            if self._at_end or self._decoder.getstate()[0] or not part.isascii():
                self._decoder.decode(part, final=self._at_end)
            self.text += part

    def read_to_end(self):
        """Reads all that is left."""
        while not self._at_end:
            self.fill(len(self.text) + self._size)

    def skip(self, count):
        """Moves on by so many bytes of what was read."""
        self.text = self.text[count:]

    def begins_with(self, pattern):
        """Whether the text goes on as a pattern says."""
        self.fill(self._size)
        return pattern.match(self.text) is not None

    def pass_over(self, pattern):
        """Moves behind what a pattern matches, which is returned. Raises: OddFileError, where it does not."""
        self.fill(self._size)
        match = pattern.match(self.text)
        if match is None:
            raise OddFileError(f"not {pattern.pattern}")
        self.skip(match.end())
        return match

    def pass_value(self):
        """Moves behind a JSON value. Raises: OddFileError, where there is none."""
        while True:
            text = self.text.decode(errors="ignore")  # the last character may not be whole
            try:
                _, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                end = len(text)
            if end < len(text):
                return self.skip(len(text[:end].encode()))
            if self._at_end:
                raise OddFileError("a value has no end")
            self.fill(2 * len(self.text) + self._size)
