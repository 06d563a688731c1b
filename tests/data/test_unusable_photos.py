"""Photos that cannot be used, or are doubtful: told and counted before the first step."""

import json

import numpy as np
import pytest
from PIL import Image

from fpn_tf import config as config_lib
from fpn_tf.data.pipeline import open_dataset
from fpn_tf.data.survey import check_files
from fpn_tf.errors import DataError


def test_what_a_header_tells_is_said_before_the_first_step(folder_config, coco_folder):
    """A bomb, floats of no known range, a turned TIFF (right), and 16 bits of which 12 are used (a note)."""
    images, exif = coco_folder / "images", Image.Exif()
    exif[0x0112] = 6
    Image.new("1", (20000, 20000)).save(images / "photo_0.png")
    Image.fromarray(np.zeros((96, 64), np.float32)).save(images / "photo_1.png", "TIFF")
    Image.fromarray(np.zeros((96, 64), np.uint8)).save(images / "photo_2.png", "TIFF", exif=exif)
    Image.fromarray(np.full((64, 96), 4000, np.uint16)).save(images / "photo_3.png")
    dataset = open_dataset(folder_config.data, "train")
    sizes = {record.name.rsplit("/")[-1]: record.size for record in dataset.records}
    told = check_files(dataset, folder_config.data)
    assert sizes["photo_2.png"] == (64, 96)
    assert [finding.count for finding in told] == [2, 1]
    assert "photo_0.png: not a readable picture (Image size (400000000 pixels)" in str(told[0])
    assert "photo_1.png: not a readable picture (floats of no declared range" in str(told[0])
    assert str(told[1]).startswith("1 photos of more than 8 bits use less than a quarter of their range")
    assert str(told[1]).endswith("photo_3.png (values up to 4000 of 65535)")
    strict = config_lib.replace(folder_config, **{"data.max_bad_fraction": 0.2})
    with pytest.raises(DataError, match="^2 of 6 photos cannot be used"):
        check_files(dataset, strict.data)  # a dark photo can


@pytest.mark.parametrize("with_sizes", [True, False])
def test_an_unreadable_photo_is_counted_with_and_without_its_size(with_sizes, folder_config, coco_folder):
    path = coco_folder / "annotations.json"
    coco = json.loads(path.read_text())
    if not with_sizes:
        for image in coco["images"]:
            del image["width"], image["height"]
        path.write_text(json.dumps(coco))
    (coco_folder / "images" / "photo_0.png").write_bytes(b"no picture")
    dataset = open_dataset(folder_config.data, "train")
    [told] = check_files(dataset, folder_config.data)
    assert (told.count, told.what) == (1, "photos cannot be read")
    boxes = [a["bbox"] for a in coco["annotations"] if a["image_id"] == 100 and not a["iscrowd"]]
    corners = [[x, y, x + width, y + height] for x, y, width, height in boxes]
    np.testing.assert_array_equal(dataset.records[0].boxes, corners)
    others = [record.size for record in dataset.records[1:]]
    assert others == [(96, 64), (64, 96), (64, 96), (96, 64), (64, 96)]


def test_sizes_before_a_photo_is_turned_are_recognised(folder_config, coco_folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 64)).save(coco_folder / "images" / "photo_0.png", exif=exif)  # 64x96 when turned
    [told] = check_files(open_dataset(folder_config.data, "train"), folder_config.data)
    assert str(told).endswith("photo_0.png (64x96, the annotations say 96x64; before EXIF turns it?)")
