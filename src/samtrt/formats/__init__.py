"""Files that other tools read and write: boxes in, masks out."""

from samtrt.formats.boxes import read_boxes

__all__ = ["read_boxes"]
