"""A JSON object read piece by piece gives what json.loads gives of it, wherever the pieces end."""

import io
import itertools
import json

import msgspec
import pytest

from fpn_tf.data.json_stream import OddFileError, OtherFormError, lists_in

PLAIN = {
    "info": {"a": [{"b": "}, {"}], "n": -1.5e-3},
    "images": [{"id": i, "name": f"größe {i} }}, {{ ]"} for i in range(40)],
    "none": [],
    "annotations": [{"id": i, "parts": [{"p": [{"q": i}]}, {"r": []}], "text": '"}], {"'} for i in range(40)],
    "text": "}]",
    "categories": [],
}
TYPES = {"images": dict, "annotations": dict, "categories": dict}
FORMS = {
    "spaced": json.dumps(PLAIN).encode(),
    "dense": json.dumps(PLAIN, separators=(",", ":"), ensure_ascii=False).encode(),
    "in lines": json.dumps(PLAIN, indent=1).encode() + b"\r\n\t ",
    "marked": b"\xef\xbb\xbf \n" + json.dumps(PLAIN, ensure_ascii=False).encode(),
    "in another order": json.dumps(dict(reversed(PLAIN.items()))).encode(),
}


def read(text, size, types=TYPES):
    lists = {key: [] for key in types}
    for key, entries in lists_in(io.BytesIO(text), types, size):
        lists[key] += entries
    return lists


@pytest.mark.parametrize("form", FORMS)
def test_pieces_of_any_size_give_the_lists(form):
    for size in (*range(1, 40), 100, 333, 1000, 2**16):
        assert read(FORMS[form], size) == {key: PLAIN[key] for key in TYPES}


def test_a_large_file_is_read_in_pieces_of_the_size_that_is_asked_for():
    text = json.dumps({"images": [{"id": i} for i in range(5000)]}).encode()
    counts = [len(entries) for _, entries in lists_in(io.BytesIO(text), {"images": dict}, 1000)]
    assert sum(counts) == 5000
    assert max(counts) < 2 * 1000 / len('{"id": 1}')
    assert len(counts) < 200


BROKEN = {
    "cut": FORMS["dense"][:-30],
    "cut behind a list": FORMS["dense"].rpartition(b",")[0],
    "more follows": FORMS["dense"] + b"{}",
    "no comma": FORMS["dense"].replace(b',"none"', b' "none"'),
    "two commas": FORMS["dense"].replace(b',"none"', b',,"none"'),
    "a comma at the end": FORMS["dense"][:-1] + b",}",
    "a list of numbers": b'{"images":[1,2],"annotations":[],"categories":[]}',
    "no list": b'{"images":{"id":1},"annotations":[],"categories":[]}',
    "null": b'{"images":null,"annotations":[],"categories":[]}',
    "twice": b'{"images":[],"annotations":[],"categories":[],"images":[]}',
    "Latin-1": '{"images":[],"x":"ö","annotations":[],"categories":[]}'.encode("latin-1"),
    "UTF-16": FORMS["dense"].decode().encode("utf-16"),
    "a character cut": b'{"images":[],"annotations":[],"categories":[]} \xc3',
    "NaN": b'{"images":[{"id":NaN}],"annotations":[],"categories":[]}',
    "an entry without an end": b'{"images":[{"id":1},{"id":2]',
    "nested too deep": b'{"x":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_or_odd_is_said(name):
    for size in (1, 7, 50, 2**16):
        with pytest.raises(OddFileError) as caught:
            read(BROKEN[name], size)
        assert type(caught.value) is OddFileError or name == "UTF-16"


@pytest.mark.parametrize("text", [b"[]", b"[1, 2", b'"a"', b"", b"  ", b'{"images":[],"annotations":[]}'])
def test_another_form_is_told_from_a_wrong_one(text):
    with pytest.raises((OtherFormError, OddFileError)) as caught:
        read(text, 50)
    assert isinstance(caught.value, OtherFormError)


def test_types_are_checked_in_every_piece():
    class Entry(msgspec.Struct):
        id: int

    entries = [{"id": i} for i in range(50)]
    for wrong in (0, 17, 49):
        text = json.dumps({"images": [*entries[:wrong], {"id": "1"}, *entries[wrong:]]}).encode()
        for size in (1, 100, 10_000):
            with pytest.raises(OddFileError, match="Expected `int`, got `str`"):
                list(itertools.chain(lists_in(io.BytesIO(text), {"images": Entry}, size)))
