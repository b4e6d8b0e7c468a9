"""Reading boxes from what detectors and annotation tools write."""

from samtrt.choices import BoxForm
from samtrt.formats.boxes.fitting import fit
from samtrt.formats.boxes.opening import telling
from samtrt.formats.boxes.reading import open_listing, read_boxes
from samtrt.formats.boxes.types import Box, Boxes, Listing, NotListed, Rows, Subject, Unreadable

__all__ = [
    "Box",
    "BoxForm",
    "Boxes",
    "Listing",
    "NotListed",
    "Rows",
    "Subject",
    "Unreadable",
    "fit",
    "open_listing",
    "read_boxes",
    "telling",
]
