"""`samtrt info`: what is installed here, or what a model directory holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samtrt.cli import screen
from samtrt.cli.json_file import check_json, write_json
from samtrt.cli.reading import ForceOption

if TYPE_CHECKING:
    from samtrt.choices import AnyStage, Target
    from samtrt.errors import EngineError
    from samtrt.tensorrt.record import EngineRecord


def command(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Model directory to describe and check.")
    ] = None,
    json_path: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write it to this file, as JSON; - prints it."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Show what is installed and which backends work here, or describe a model directory."""
    from rich.markup import escape

    if directory:
        _describe(directory, json_path, force)
        return
    from samtrt import environment

    found = environment.as_json()
    if _written(json_path, found, force):
        return
    for status in found["backends"]:
        works = "[green]yes[/]" if status["works"] else "[red]no[/] "
        devices = ", ".join(status["devices"]) or "-"
        screen.show(f"{status['name']:14} {works}  {devices}")
        screen.show(f"[dim]{escape(screen.indented(status['note']))}[/]")
    screen.show("")
    for name, installed in found["versions"].items():
        screen.show(f"{name:27} {installed or '[dim]not installed[/]'}")


def _describe(directory: Path, json_path: Path | None, force: bool) -> None:
    from rich.markup import escape

    from samtrt.choices import MaskChoice
    from samtrt.errors import EngineError
    from samtrt.files import counted
    from samtrt.manifest import Manifest
    from samtrt.tensorrt.engine_files import find_engines

    manifest = Manifest.load(directory)
    with screen.working("checking files"):
        for stage in manifest.files:
            manifest.path_of(directory, stage)  # raises where a file is not the one exported
        engines = find_engines(directory, manifest)
    described = [_engine_json(*item) for item in engines.items()]
    if _written(json_path, manifest.model_dump(mode="json") | {"engines": described}, force):
        return
    table = screen.facts()
    sizes = f"{manifest.image_size} pixels"
    if manifest.input_size != manifest.image_size:
        sizes += f", encoded at {manifest.input_size}"
    table.add_row("model", escape(f"{manifest.model} ({manifest.family.value}), {sizes}"))
    if manifest.mask_choice is MaskChoice.BEST:
        masks = "its own alone" if manifest.hq_token_only else "SAM's plus its own"
        table.add_row("masks", f"of a SAM-HQ: {masks}; the best-scored of three")
    maps = ", ".join(f"{one.name} {'x'.join(map(str, one.shape))}" for one in manifest.maps)
    held = sum(one.nbytes for one in manifest.maps)
    table.add_row("embedding", escape(f"{maps}: {held / 2**20:.1f} MiB an image"))
    table.add_row("preparation", escape(str(manifest.preparation)))
    automatic = manifest.automatic
    table.add_row(
        "auto keeps",
        f"predicted IoU above {automatic.pred_iou:g}, stability from {automatic.stability:g}",
    )
    table.add_row("precision", manifest.precision.value)
    if manifest.quantized:
        record = manifest.quantized
        kept = counted(len(record.float32_layers), "layer")
        table.add_row("encoder", f"int8 ({record.method.value}), {kept} in fp32")
    table.add_row("opset", str(manifest.opset))
    table.add_row("encoder batch", "dynamic" if manifest.dynamic_batch else "1")
    checkpoint = f"{manifest.checkpoint.name} {manifest.checkpoint.sha256[:16]}..."
    table.add_row("checkpoint", escape(checkpoint))
    for entries in manifest.files.values():
        for entry in entries:
            table.add_row(escape(entry.name), f"{entry.size / 1e6:.1f} MB, sha256 checked")
    versions = ", ".join(f"{k} {v}" for k, v in manifest.versions.items())
    table.add_row("made with", escape(versions))
    for (target, stage), found in engines.items():
        text = str(found) if isinstance(found, EngineError) else "\n".join(_engine_lines(found))
        table.add_row(f"{target.value} {stage.value}", escape(text))
    screen.show(table)


def _written(json_path: Path | None, value: dict[str, Any], force: bool) -> bool:
    """Print or write what was asked for; tell whether the screen is taken by it."""
    if json_path == Path("-"):
        typer.echo(json.dumps(value, indent=2))
        return True
    check_json(json_path, f'{{\n  "{next(iter(value))}": '.encode(), force)
    write_json(json_path, value)
    return False


def _engine_lines(record: EngineRecord) -> list[str]:
    """Say what an engine computes in, what it runs on, and which shapes it takes."""
    capabilities = ", ".join(record.compute_capabilities)
    size = record.file.size / 1e6
    lines = [
        f"{record.precision.value}, {size:.1f} MB, sha256 checked",
        f"for {record.gpu or 'any GPU'} of compute capability {capabilities}, "
        f"{record.target.value} {record.library_version}",
    ]
    if record.plugin:
        lines.append(f"plugin library {record.plugin.name}")
    for name, profile in record.profiles.items():
        least, best, most = (
            " x ".join(map(str, shape)) for shape in (profile.min, profile.opt, profile.max)
        )
        lines.append(
            f"{name} {least}" if least == most else f"{name} {least} to {most}, best {best}"
        )
    return lines


def _engine_json(key: tuple[Target, AnyStage], found: EngineRecord | EngineError) -> dict[str, Any]:
    from samtrt.errors import EngineError

    if isinstance(found, EngineError):
        return {"target": key[0].value, "stage": key[1].value, "error": str(found)}
    return found.model_dump(mode="json")
