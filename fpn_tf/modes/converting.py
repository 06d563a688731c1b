"""`--mode=convert`: a folder in any of the formats as COCO's JSON."""

import pathlib

from fpn_tf.data.coco_folder import check
from fpn_tf.data.formats.folder import READERS, sets_of
from fpn_tf.errors import DataError
from fpn_tf.files import write_json
from fpn_tf.training.progress import console


def convert(folder, output, data_format="auto"):
    """Writes `<output>/<part>.json` for every part of a folder: train, val, test, or all of it.

    Names of photos in them are relative to the folder of the photos, which is printed.

    Args:
        folder: of photos and annotations.
        output: a folder; no file in it is replaced.
        data_format: its format, or "auto".

    Raises:
        DataError: nothing that can be read, or a file that is there already.
    """
    if data_format not in ("auto", *READERS):
        raise DataError(f"data.format={data_format}: expected one of auto, {', '.join(READERS)}")
    name, sets = sets_of(folder, data_format)
    paths = {part: pathlib.Path(output) / f"{part}.json" for part in sets}
    for path in paths.values():
        if path.exists():
            raise DataError(f"{path}: exists; expected an --output without it")
    for part, photo_set in sets.items():
        coco = READERS[name].read(photo_set)
        check(coco, photo_set.annotations)
        write_json(paths[part], coco)
        count = f"{len(coco['images'])} photos, {len(coco['annotations'])} boxes"
        console.print(f"{name}, {part}: {count} -> {paths[part]} (photos: {photo_set.images})")
