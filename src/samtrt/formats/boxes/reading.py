"""The boxes of one picture, from a file or from a folder of label files."""

from __future__ import annotations

from pathlib import Path

from samtrt.choices import BoxForm
from samtrt.errors import PromptError
from samtrt.files import printable
from samtrt.formats.boxes.fitting import fit
from samtrt.formats.boxes.folder import Folder
from samtrt.formats.boxes.opening import open_boxes, telling
from samtrt.formats.boxes.types import Boxes, Listing, Subject
from samtrt.types import Size


def open_listing(path: str | Path, form: BoxForm | None = None) -> Listing:
    """Open a file of boxes or a folder of label files; raises as `read_boxes`."""
    path = Path(path)
    return Folder(path, form) if path.is_dir() else open_boxes(path, form)


def read_boxes(
    path: str | Path,
    image_size: Size,
    image_name: str | Path = "",
    orientation: int | None = None,
    form: BoxForm | None = None,
) -> Boxes:
    """Read the boxes that a file gives for one picture.

    The form is told by the suffix and the content; docs/inputs.md has what is read of each:

    - `.json`: a COCO dataset or COCO results; labelme; VIA; `{"boxes": [...], "labels": [...],
      "scores": [...]}` or a bare list of boxes, XYXY;
    - `.txt`: YOLO labels: boxes, tracks, polygons, poses;
    - `.csv`: with a header, of OpenImages or of VIA; or the columns x1, y1, x2, y2 alone;
    - a folder of such files, one a picture, with names of YOLO's classes beside or above.

    Boxes of a declared size are scaled to the picture's, and turned where they were made before
    EXIF turned the picture.

    Args:
        path: The file or folder.
        image_size: (height, width) of the picture, upright.
        image_name: The picture's path, which picks its boxes in a file about many pictures.
        orientation: The EXIF orientation that it was turned by, 1..8; None where unknown.
        form: What the boxes are, where the file can be read two ways.

    Raises:
        PromptError: where the file cannot be read, is in none of these forms or may be in two, is
            of another picture, or has no box for this one. It names the line or annotation.
    """
    subject = Subject(str(image_name), image_size, orientation)
    with telling(path):
        boxes = fit(open_listing(path, form).rows(subject.name), subject)
        if not boxes.items:
            about = f" for {subject.name}" if subject.name else ""
            more = f"; {'; '.join(boxes.notices)}" if boxes.notices else ""
            raise PromptError(printable(f"{path} has no box{about}{more}"))
        return boxes
