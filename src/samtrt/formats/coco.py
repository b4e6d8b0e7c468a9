"""Masks as a COCO dataset that pycocotools loads."""

from __future__ import annotations

from typing import Any

from samtrt.formats.annotation import AnnotatedImage, Annotation, Categories, Category
from samtrt.formats.polygons import edges_of

_OWN = ("id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd", "score")
"""Keys of an annotation that say what `Annotation` has fields for."""


def coco_image(image: AnnotatedImage, number: int) -> dict[str, Any]:
    """Describe the picture as an entry of `images`."""
    height, width = image.size
    return {
        **image.more,
        "id": number,
        "file_name": image.file_name,
        "height": int(height),
        "width": int(width),
    }


def coco_annotation(
    annotation: Annotation, categories: Categories, number: int, image: int, polygons: bool = False
) -> dict[str, Any]:
    """Describe a mask as an entry of `annotations`.

    The id that it came with is kept as `source_id` where `number` is another.

    Args:
        annotation: The mask.
        categories: Of the dataset.
        number: Its id.
        image: Its picture's id.
        polygons: Polygons along the edges of pixels instead of RLE. pycocotools makes the same mask
            of them, but for holes, which COCO's polygons cannot have.
    """
    segmentation: Any = annotation.segmentation
    if polygons:
        segmentation = [edge.ravel().tolist() for edge in edges_of(annotation.patch)]
    source = {"source_id": annotation.id} if annotation.id not in (None, number) else {}
    return {
        "id": number,
        **source,
        "image_id": image,
        "category_id": categories.of(annotation).id,
        "segmentation": segmentation,
        "area": annotation.area,
        "bbox": list(annotation.bbox),
        "iscrowd": 0,  # RLE alone does not make it a crowd, which tools would leave out
        **({} if annotation.score is None else {"score": annotation.score}),
        **annotation.more,
    }


def coco_categories(categories: Categories) -> list[dict[str, Any]]:
    """Describe the classes as `categories`."""
    return [{"id": one.id, "name": one.name, **one.more} for one in categories.all]


def coco_dataset(
    image: AnnotatedImage, categories: Categories, info: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Describe one image's masks as a dataset of their own.

    Args:
        image: The picture and its masks.
        categories: Of the dataset.
        info: What else the file should say of its making.
    """
    return {
        "info": info or {},
        "licenses": [],
        "images": [coco_image(image, image.more.get("id", 1))],
        "categories": coco_categories(categories),
        "annotations": [
            coco_annotation(one, categories, number, image.more.get("id", 1))
            for number, one in enumerate(image.annotations, start=1)
        ],
    }


def read_coco_dataset(data: dict[str, Any]) -> AnnotatedImage:
    """Read what `coco_dataset` made, as JSON gives it back.

    Raises:
        KeyError, TypeError, ValueError, IndexError: where it is something else.
    """
    (picture,) = data["images"]
    names = {one["id"]: one["name"] for one in data["categories"]}
    annotations = [
        Annotation(
            one["segmentation"],
            tuple(one["bbox"]),
            one["area"],
            names[one["category_id"]],
            one["category_id"],
            one.get("score"),
            one.get("source_id"),
            {k: v for k, v in one.items() if k not in (*_OWN, "source_id")},
        )
        for one in data["annotations"]
    ]
    more = {k: v for k, v in picture.items() if k not in ("file_name", "height", "width")}
    return AnnotatedImage(
        picture["file_name"], (picture["height"], picture["width"]), annotations, more
    )


def read_categories(data: dict[str, Any]) -> Categories:
    """Read the categories of what `coco_dataset` made; raises as `read_coco_dataset`."""
    return Categories(
        Category(one["id"], one["name"], {k: v for k, v in one.items() if k not in ("id", "name")})
        for one in data["categories"]
    )
