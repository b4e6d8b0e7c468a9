"""Masks as YOLO segmentation labels, as Ultralytics reads them.

OUT/data.yaml        where the pictures are, and the names of the classes
OUT/images/NAME.jpg
OUT/labels/NAME.txt  a line a mask
"""

from __future__ import annotations

import yaml

from samtrt.formats.annotation import AnnotatedImage, Categories
from samtrt.formats.polygons import join_polygons, polygons_of


def yolo_labels(image: AnnotatedImage, categories: Categories) -> str:
    """Write one line a mask: the class, then x and y of each corner as shares of the image.

    A mask in several parts becomes one polygon with bridges between them; holes are lost, and an
    empty mask has no line. Corners are at pixel centres, so that scaling and rounding down finds
    the pixel again.
    """
    height, width = image.size
    lines = []
    for one in image.annotations:
        polygons = polygons_of(one.patch)
        if polygons:
            shares = (join_polygons(polygons) + 0.5) / (width, height)
            corners = " ".join(f"{share:.6f}" for share in shares.ravel())
            lines.append(f"{categories.index(one)} {corners}\n")
    return "".join(lines)


def data_yaml(categories: Categories) -> str:
    """Write `data.yaml`: the same pictures to train and to validate; divide them as you need.

    `path` is left out, so that the data set may move: it is then the file's own folder.
    """
    names = {i: one.name for i, one in enumerate(categories.all)}
    document = {"train": "images", "val": "images", "nc": len(names), "names": names}
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
