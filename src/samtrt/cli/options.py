"""Options that several commands share, and how they become a predictor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.backends import BackendOptions
from samtrt.choices import BackendName, JpegWork, PixelWork
from samtrt.cli.screen import working

if TYPE_CHECKING:
    from samtrt.predictor import Predictor
    from samtrt.video.predictor import VideoPredictor

ModelDir = Annotated[
    Path, typer.Argument(metavar="DIR", help="Model directory, as written by 'samtrt export'.")
]
BackendOption = Annotated[
    BackendName,
    typer.Option(
        "--backend",
        "-b",
        metavar="RUNTIME",
        help=f"Runtime: {', '.join(BackendName)}. Nothing falls back to another.",
    ),
]
PointOption = Annotated[
    list[str] | None,
    typer.Option("--point", "-p", metavar="X,Y[,LABEL]", help="1: object (default), 0: not."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda or cuda:N. Default: the backend's own."),
]
ThreadsOption = Annotated[
    int, typer.Option("--threads", min=0, help="CPU threads; 0 leaves it to the runtime.")
]
PixelsOption = Annotated[
    PixelWork,
    typer.Option(
        "--pixels",
        help="TensorRT: where images are prepared and masks formed, on its device or on the host.",
    ),
]
JpegOption = Annotated[
    JpegWork,
    typer.Option(
        "--jpeg",
        help="TensorRT: where JPEG is decoded; 'gpu' needs the extra jpeg-gpu.",
    ),
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        "-c",
        help="The checkpoint that DIR was exported from, for pytorch: a file, or a name as in "
        "'samtrt export'.",
    ),
]
SpecksOption = Annotated[
    int,
    typer.Option(
        "--specks",
        min=0,
        metavar="CELLS",
        help="Remove islands and holes of fewer cells of the low-res logits; 0 for none.",
    ),
]


RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Do it on a Ray cluster: HOST:PORT of its head, 'auto' for the one that this machine "
        "is in, or 'local' for all GPUs or cores of this machine. Images and results may be at "
        "addresses then, such as s3://bucket/images.",
    ),
]


def resolve_checkpoint(checkpoint: str) -> Path:
    """Return the file that a path, a fetched model's name or a name on the Hub means.

    Raises:
        CheckpointError: where it is none of them, or the model was not fetched.
    """
    # With its HTTP client, which engines do without.
    from samtrt.checkpoints import download

    return download.resolve(checkpoint)


@dataclass(frozen=True)
class Engines:
    """Which engines a command runs: a model directory with the shared options. None is open."""

    directory: Path
    backend: BackendName
    device: str | None
    threads: int
    checkpoint: str | None
    pixels: PixelWork = PixelWork.DEVICE
    specks: int = 0

    def load(self) -> Predictor:
        """Open both engines; raises as `Predictor.load`."""
        from samtrt.predictor import Predictor

        with working("loading the model"):
            predictor = Predictor.load(self.directory, self.backend, self.options)
        predictor.specks = self.specks
        return predictor

    def load_video(self, predictor: Predictor) -> VideoPredictor:
        """Open what follows objects through videos, beside the predictor, whose encoder it shares.

        Raises:
            SamtrtError: as `VideoEngines.load`; also where PyAV is not installed.
        """
        from samtrt.video.engines import VideoEngines
        from samtrt.video.frames import load_av
        from samtrt.video.predictor import VideoPredictor

        load_av()
        with working("loading the model for videos"):
            engines = VideoEngines.load(
                self.directory, self.backend, self.options, predictor.encoder
            )
        # A correction is to hold where tracking goes on from it.
        return VideoPredictor(engines, add_all_frames_to_correct_as_cond=True)

    @property
    def options(self) -> BackendOptions:
        """How the engines run."""
        return BackendOptions(
            device=self.device,
            threads=self.threads,
            pixels=self.pixels,
            checkpoint=resolve_checkpoint(self.checkpoint) if self.checkpoint else None,
        )

    @property
    def on_gpu(self) -> bool:
        """Whether they run on a GPU."""
        engines = (BackendName.TENSORRT, BackendName.TENSORRT_RTX)
        return self.backend in engines if self.device is None else self.device.startswith("cuda")

    def on_cluster(self, ray: str | None) -> Engines:
        """Return the same for a worker of a cluster, which has one GPU or a number of cores.

        Args:
            ray: The cluster's address; None where there is none, and nothing changes.

        Raises:
            BackendError: where the device is one of several GPUs, which Ray gives to workers.
            ClusterError, MissingExtraError: where there is no such cluster.
        """
        from samtrt.errors import BackendError

        if ray is None:
            return self
        if self.device not in (None, "cpu", "cuda"):
            raise BackendError(
                f"--device {self.device}: with --ray each worker gets a GPU or cores of its own; "
                "say --device cuda or cpu"
            )
        from samtrt.cluster.run import check_address

        check_address(ray)
        return replace(
            self,
            directory=self.directory.absolute(),  # workers have another working directory
            checkpoint=self.checkpoint and str(resolve_checkpoint(self.checkpoint).absolute()),
            threads=self.threads or int(not self.on_gpu),
        )
