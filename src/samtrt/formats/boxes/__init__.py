"""Reading boxes from what detectors and annotation tools write."""

from samtrt.choices import BoxForm
from samtrt.formats.boxes.fitting import fit
from samtrt.formats.boxes.folder import Folder
from samtrt.formats.boxes.opening import open_boxes, read_boxes, telling
from samtrt.formats.boxes.types import Box, Boxes, Listing, NotListed, Rows, Subject, Unreadable

__all__ = [
    "Box",
    "BoxForm",
    "Boxes",
    "Folder",
    "Listing",
    "NotListed",
    "Rows",
    "Subject",
    "Unreadable",
    "fit",
    "open_boxes",
    "read_boxes",
    "telling",
]
