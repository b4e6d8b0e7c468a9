"""Files that other tools read and write: boxes in, masks out."""

from samtrt.formats.boxes import Box, Boxes, BoxForm, read_boxes

__all__ = ["Box", "BoxForm", "Boxes", "read_boxes"]
