"""Masks on the ground: GeoJSON and GeoTIFF of pictures that say where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samtrt.errors import MissingExtraError, OutputError
from samtrt.formats.annotation import AnnotatedImage, Categories
from samtrt.formats.labelmap import label_map, masks_by_number
from samtrt.images.orientation import orientation_of_file

if TYPE_CHECKING:
    from rasterio.crs import CRS
    from rasterio.transform import Affine

_DRIVERS = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\xff\xd8": "JPEG",
    b"\x89PNG": "PNG",
    b"\0\0\0\x0cjP": "JP2OpenJPEG",
}
"""GDAL's drivers of pictures that may say where they lie, by first bytes.

Others of its drivers read files that lead to further files.
"""

TAG = "SAMTRT_MASKS"

LON_LAT = "EPSG:4326"
"""What GeoJSON's coordinates are in, by RFC 7946."""


def check_rasterio() -> Any:
    """Return the library; raises `MissingExtraError` without it."""
    try:
        import rasterio
    except ImportError:
        raise MissingExtraError("GeoJSON or GeoTIFF", "geo", "rasterio") from None
    return rasterio


def georeference(picture: Path, image: AnnotatedImage) -> tuple[Affine, CRS]:
    """Return what maps a picture's pixels to the ground, and the coordinates that these are.

    Raises:
        MissingExtraError: without rasterio.
        OutputError: where the picture does not say it, or not for pixels as they are shown.
    """
    rasterio = check_rasterio()
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NotGeoreferencedWarning, which is the error below
            with rasterio.open(picture, driver=_driver(picture)) as file:
                transform, crs, shape = file.transform, file.crs, file.shape
    except (OSError, rasterio.errors.RasterioError) as error:
        raise OutputError(f"cannot read where {picture} lies: {error}") from None
    if transform.is_identity or crs is None:
        raise OutputError(
            f"{picture} does not say where it lies (no transform or no coordinate system): leave "
            "out geojson and geotiff"
        )
    if tuple(shape) != tuple(image.size) or orientation_of_file(picture) != 1:
        raise OutputError(
            f"{picture} is turned by its orientation tag, and its place is that of the picture "
            "before: leave out geojson and geotiff"
        )
    return transform, crs


def _driver(picture: Path) -> str:
    """Return GDAL's driver for a file; raises `OSError`, and `OutputError` where there is none."""
    with picture.open("rb") as file:
        start = file.read(8)
    for signature, driver in _DRIVERS.items():
        if start.startswith(signature):
            return driver
    raise OutputError(
        f"{picture} is no TIFF, JPEG 2000, PNG or JPEG, which may say where they lie: leave out "
        "geojson and geotiff"
    )


def save_geojson(path: Path, image: AnnotatedImage, categories: Categories, picture: Path) -> None:
    """Write masks as polygons in longitude and latitude, along the edges of pixels, with holes.

    Raises:
        MissingExtraError, OutputError: as `georeference`.
    """
    transform, crs = georeference(picture, image)
    from rasterio.features import shapes
    from rasterio.transform import Affine
    from rasterio.warp import transform_geom

    known = masks_by_number(image, categories)
    separator = "\n"
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type":"FeatureCollection","features":[')
        for number, one in enumerate(image.annotations, start=1):
            x, y, mask = one.patch
            if not mask.size:
                continue
            place = transform @ Affine.translation(x, y)
            parts = shapes(np.ascontiguousarray(mask).view(np.uint8), mask, 4, place)
            polygons = [part["coordinates"] for part, _ in parts]
            geometry = (
                {"type": "Polygon", "coordinates": polygons[0]}
                if len(polygons) == 1
                else {"type": "MultiPolygon", "coordinates": polygons}
            )
            feature = {
                "type": "Feature",
                "id": number,
                "properties": {**known[str(number)], "pixels": one.area},
                "geometry": _counterclockwise(transform_geom(crs, LON_LAT, geometry)),
            }
            file.write(separator)
            json.dump(feature, file, allow_nan=False)
            separator = ",\n"
        file.write("\n]}\n")


def save_geotiff(path: Path, image: AnnotatedImage, categories: Categories, picture: Path) -> None:
    """Write a label map that lies where the picture lies; 0, where no mask is, is no data.

    What each number is stands in the tag `SAMTRT_MASKS`, as JSON.

    Raises:
        MissingExtraError, OutputError: as `georeference`.
    """
    transform, crs = georeference(picture, image)
    labels = label_map(image)
    height, width = image.size
    with check_rasterio().open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=1,
        dtype=labels.dtype,
        crs=crs,
        transform=transform,
        nodata=0,
        compress="deflate",
    ) as file:
        file.write(labels, 1)
        file.update_tags(**{TAG: json.dumps(masks_by_number(image, categories), allow_nan=False)})


def _counterclockwise(geometry: dict[str, Any]) -> dict[str, Any]:
    """Turn rings as RFC 7946 asks: the outer counterclockwise, holes clockwise."""
    several = geometry["type"] == "MultiPolygon"
    polygons = geometry["coordinates"] if several else [geometry["coordinates"]]
    turned = [
        [ring if (_area(ring) > 0) == (i == 0) else ring[::-1] for i, ring in enumerate(polygon)]
        for polygon in polygons
    ]
    return {"type": geometry["type"], "coordinates": turned if several else turned[0]}


def _area(ring: list[tuple[float, float]]) -> float:
    x, y = np.asarray(ring, dtype=np.float64).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())
