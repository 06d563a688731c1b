"""Which files are meant by `--images`, and which of them are photos."""

import os
import pathlib

from PIL import Image

from fpn_tf import files
from fpn_tf.errors import DataError

# Formats that Pillow lists, and that are no pictures or that it reads with the help of other programs.
NOT_READ = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
PICTURE_SUFFIXES = frozenset(  # of pictures that Pillow does not read, or not everywhere
    ".heic .heif .hif .avif .jxl .jxr .wdp .svg .svgz .eps .wmf .emf .exr .hdr .dcm .xcf .psb .ai "
    ".raw .dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .x3f .3fr .erf .kdc .mrw "
    ".iiq .rwl".split()
)
SHOWN = 3  # names that a message gives


def photo_suffixes():
    """The suffixes, in lower case with a dot, of the files that Pillow reads as photos."""
    formats = Image.registered_extensions()  # which also loads all of Pillow's plugins
    readable = {suffix for suffix, name in formats.items() if name in Image.OPEN and name not in NOT_READ}
    return readable | {".mpo"}  # read as a JPEG


def find_photos(pattern):
    """The paths of the photos of a folder, a single file or a glob pattern, sorted.

    What exists as it is written is a path, whatever characters its name has.

    Raises:
        DataError: no photo is there.
    """
    if os.path.isdir(pattern):
        names, suffixes = sorted(pathlib.Path(pattern).iterdir()), photo_suffixes()
        paths = [path for path in names if path.suffix.lower() in suffixes and path.is_file()]
    else:
        paths = [path for path in files.paths_matching(pattern) if path.is_file()]
    if not paths:
        others = left_out(pattern)
        reason = f"; left out: {others}" if others else ""
        raise DataError(
            f"--images={pattern}: no photos there; expected a folder, a file or a glob pattern{reason}"
        )
    return paths


def left_out(pattern):
    """A text that names the files of a folder that look like pictures and are not read; "" without any."""
    if not os.path.isdir(pattern):
        return ""
    unread = PICTURE_SUFFIXES - photo_suffixes()
    names = sorted(p.name for p in pathlib.Path(pattern).iterdir() if p.suffix.lower() in unread)
    if not names:
        return ""
    more = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} of a format that Pillow does not read ({', '.join(names[:SHOWN])}{more})"
