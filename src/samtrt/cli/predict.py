"""`samtrt predict`: masks of one image from points, boxes and a mask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samtrt.choices import BackendName, BoxForm, JpegWork, PixelWork, Segmentation
from samtrt.cli.dataset import DatasetRequest, predict_dataset
from samtrt.cli.options import (
    BackendOption,
    CheckpointOption,
    DeviceOption,
    Engines,
    JpegOption,
    ModelDir,
    PixelsOption,
    PointOption,
    RayOption,
    SpecksOption,
    ThreadsOption,
)
from samtrt.cli.places import Target, is_one, target
from samtrt.cli.prompts import numbers
from samtrt.cli.reading import (
    BackgroundOption,
    ForceOption,
    ImageReader,
    RecursiveOption,
    ValueRangeOption,
    note,
)
from samtrt.cli.screen import working
from samtrt.cli.writing import (
    DEFAULT_FORMATS,
    MinAreaOption,
    SegmentationOption,
    ToleranceOption,
    outline_of,
    parse_formats,
)
from samtrt.files import printable

if TYPE_CHECKING:
    from samtrt.encoding import Image
    from samtrt.formats import Boxes
    from samtrt.predictor import Predictor


def command(
    directory: ModelDir,
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE|FOLDER",
            help="Picture, or an embedding written by 'samtrt embed'; with --boxes also a folder.",
        ),
    ],
    point: PointOption = None,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", metavar="X1,Y1,X2,Y2", help="Repeatable: one mask for each box."),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            "--boxes",
            help="A detector's boxes: COCO, labelme or VIA JSON, YOLO .txt, CSV; of a FOLDER, a "
            "file that names its pictures or a folder of label files.",
        ),
    ] = None,
    boxes_format: Annotated[
        BoxForm | None,
        typer.Option("--boxes-format", help="What --boxes holds, where it can be read two ways."),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option("--mask", help="Rough mask as a prompt: a picture whose background is 0."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all/--best", help="All three masks of a prompt, or the best one."),
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Picture with masks and prompts drawn; of a FOLDER, a COCO data set, .json, or a "
            "directory for all --formats.",
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--formats",
            "-f",
            help=f"Of a FOLDER: what to write beside COCO JSON, or 'none'. Default: "
            f"{DEFAULT_FORMATS}",
        ),
    ] = None,
    segmentation: SegmentationOption = Segmentation.RLE,
    polygon_tolerance: ToleranceOption = 1.0,
    polygon_min_area: MinAreaOption = 16.0,
    recursive: RecursiveOption = False,
    mask_path: Annotated[
        Path | None,
        typer.Option("--save-mask", help="Mask PNG (0 or 255); -0, -1 .. for several."),
    ] = None,
    json_path: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Masks as COCO RLE with box, area and scores."),
    ] = None,
    specks: SpecksOption = 0,
    value_range: ValueRangeOption = None,
    background: BackgroundOption = "white",
    force: ForceOption = False,
    backend: BackendOption = BackendName.ONNXRUNTIME,
    device: DeviceOption = None,
    threads: ThreadsOption = 0,
    pixels: PixelsOption = PixelWork.DEVICE,
    jpeg: JpegOption = JpegWork.HOST,
    checkpoint: CheckpointOption = None,
    ray: RayOption = None,
) -> None:
    """Segment what points, boxes or a rough mask point at in one image, or all boxes of a folder.

    Of a folder, every box of --boxes becomes a mask of a data set; label, category, score and id
    stay with it. A restart skips pictures that are done; one that fails is reported, and the exit
    code is then 1 once all others are done.
    """
    from samtrt.cli import results
    from samtrt.embeddings import is_embedding_file, read_embedding, read_embedding_info
    from samtrt.errors import PromptError
    from samtrt.types import to_host

    if boxes and (point or box or mask):
        raise PromptError("--boxes makes one prompt of each box: leave out --point, --box, --mask")
    read = ImageReader(value_range, background, jpeg)
    engines = Engines(directory, backend, device, threads, checkpoint, pixels, specks)
    if not is_one(images) or formats is not None or recursive:
        if every or mask_path or json_path:
            raise PromptError(
                "a data set has one mask for each box: leave out --all, --save-mask and --json"
            )
        request = _dataset_request(
            images,
            boxes,
            target(output, ray) if output is not None else None,
            formats,
            form=boxes_format,
            segmentation=segmentation,
            outline=outline_of(polygon_tolerance, polygon_min_area),
            recursive=recursive,
            force=force,
        )
        predict_dataset(request, read, engines.on_cluster(ray), ray)
        return
    if ray is not None:
        raise PromptError("--ray is for the boxes of a folder: give one, with --boxes")
    image, overlay = Path(images), target(output, None).folder if output is not None else None
    results.check_outputs(
        [path for path in (overlay, mask_path, json_path) if path],
        [path for path in (image, boxes, mask) if path],
        force,
    )
    picture: Image | None = None
    embedded = is_embedding_file(image)
    name = image.name
    if embedded:
        name = read_embedding_info(image).image_name
        if overlay:
            raise PromptError(
                f"{image} is an embedding and has no pixels to draw on: "
                "use --save-mask or --json instead of --output"
            )
    elif jpeg is JpegWork.HOST:
        picture = read(image)  # a bad one is told before the model is loaded
    with engines.load() as predictor:
        if not embedded and picture is None:
            read.open(predictor)
            picture = read(image)
        if picture is None:
            stored = read_embedding(image, predictor)
            name = stored.info.image_name
            predictor.set_embedding(stored.embedding)
        else:
            with working("encoding the image"):
                predictor.set_image(picture)
        if boxes:
            listed = _listed(boxes, predictor, image, name, boxes_format)
            prompts: dict[str, Any] = {"boxes": listed.xyxy}
            facts = tuple(one.facts() for one in listed.items)
        else:
            prompts, facts = _prompts(predictor, point or [], box or [], mask), ()
        with working("decoding the prompts"):
            found = results.segment(predictor, prompts, every, facts)
        written = results.write(
            found,
            predictor,
            name,
            None if picture is None else to_host(picture),
            overlay=overlay,
            mask=mask_path,
            json=json_path,
            force=force,
        )
    results.show(found)
    for path in written:
        typer.echo(printable(path))


def _dataset_request(
    images: str, boxes: Path | None, output: Target | None, formats: str | None, **more: Any
) -> DatasetRequest:
    """Check what a run over a folder needs."""
    from samtrt.errors import OutputError, PromptError

    if boxes is None:
        raise PromptError(
            f"{images}: a folder needs --boxes; for one image leave out --formats and --recursive"
            if is_one(images)
            else f"{images} is a folder: give --boxes for its pictures, or one picture"
        )
    if output is None:
        raise OutputError("give -o: a COCO file, .json, or a directory for all --formats")
    to_file = output.told.lower().endswith(".json")
    if to_file and (output.address or formats not in (None, "none")):
        raise OutputError(
            f"{'addresses are' if output.address else '--formats are written into'} a directory: "
            f"give -o one, not {output.told}"
        )
    chosen = parse_formats(formats or ("none" if to_file else DEFAULT_FORMATS))
    return DatasetRequest(images=images, boxes=boxes, output=output, formats=chosen, **more)


def _listed(
    boxes: Path, predictor: Predictor, image: Path, name: str, form: BoxForm | None
) -> Boxes:
    """Read the boxes of one picture, and tell what was assumed."""
    from samtrt.formats import read_boxes
    from samtrt.images.orientation import orientation_of_file

    # An embedding does not say how its picture was turned.
    orientation = orientation_of_file(image) if name == image.name else None
    place = image.absolute().with_name(name)
    listed = read_boxes(boxes, predictor.original_size, place, orientation, form)
    for notice in listed.notices:
        note(f"note: {boxes}: {notice}")
    return listed


def _prompts(
    predictor: Predictor, point: list[str], box: list[str], mask: Path | None
) -> dict[str, Any]:
    """Turn the command line's prompts into arguments of `predict_batch`."""
    from samtrt.errors import PromptError
    from samtrt.images import read_mask
    from samtrt.masks.logits import logits_from_mask

    prompts: dict[str, Any] = {}
    if point:
        rows = [numbers(text, "--point", (2, 3)) for text in point]
        prompts["point_coords"] = [[row[:2] for row in rows]]
        prompts["point_labels"] = [[row[2] if len(row) == 3 else 1 for row in rows]]
    if box:
        if len(box) > 1 and (point or mask):
            raise PromptError("several boxes are prompts of their own: give them without --point")
        prompts["boxes"] = [numbers(text, "--box", (4,)) for text in box]
    if mask:
        rough = read_mask(mask)
        if rough.shape != predictor.original_size:
            height, width = predictor.original_size
            raise PromptError(
                f"{mask} is {rough.shape[1]} x {rough.shape[0]} pixels and the image is "
                f"{width} x {height}: a mask prompt must have the image's size"
            )
        prompts["mask_input"] = logits_from_mask(rough, predictor.embedding.frame)[None]
    return prompts
