"""Options of what is written for many images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.choices import OutputFormat, Segmentation

if TYPE_CHECKING:
    from samtrt.formats.polygons import Outline

DEFAULT_FORMATS = "overlay,labelmap,labelme,yolo"

SegmentationOption = Annotated[
    Segmentation,
    typer.Option("--segmentation", help="How annotations.json gives masks; polygons lose holes."),
]
ToleranceOption = Annotated[
    float,
    typer.Option(
        "--polygon-tolerance",
        min=0,
        metavar="PIXELS",
        help="labelme: how far polygons may be from the mask's edge; 0 keeps every corner.",
    ),
]
MinAreaOption = Annotated[
    float,
    typer.Option(
        "--polygon-min-area",
        min=0,
        metavar="PIXELS",
        help="labelme: leave out smaller parts of a mask, but never its largest.",
    ),
]


def parse_formats(text: str) -> list[OutputFormat]:
    """Read a list of formats, or 'none'; raises `OutputError`."""
    from samtrt.errors import OutputError

    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    known = [kind.value for kind in OutputFormat]
    if unknown := [name for name in names if name not in known]:
        raise OutputError(f"unknown format '{unknown[0]}'; use {', '.join(known)} or none")
    chosen = [OutputFormat(name) for name in dict.fromkeys(names)]
    if {OutputFormat.GEOJSON, OutputFormat.GEOTIFF} & set(chosen):
        from samtrt.formats.geo import check_rasterio

        check_rasterio()  # before any work
    return chosen


def outline_of(tolerance: float, min_area: float) -> Outline:
    """Return how polygons follow masks; raises `OutputError` for what is no number."""
    import math

    from samtrt.errors import OutputError
    from samtrt.formats.polygons import Outline

    if not (math.isfinite(tolerance) and math.isfinite(min_area)):
        raise OutputError("--polygon-tolerance and --polygon-min-area are finite numbers of pixels")
    return Outline(tolerance, min_area)
