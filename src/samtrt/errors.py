"""One tree of errors. Every message says what is wrong and what to do about it.

The command line prints the message alone and exits with 2; a server answers with 4xx.
Anything that is not a `SamtrtError` is a bug in samtrt.
"""

from __future__ import annotations


class SamtrtError(Exception):
    """Base of every error that samtrt raises on purpose."""


class CheckpointError(SamtrtError):
    """A checkpoint is missing, damaged, unsafe, or not the model it was said to be."""


class DownloadError(CheckpointError):
    """A checkpoint could not be fetched, or what arrived is not what was published."""


class ExportError(SamtrtError):
    """An ONNX graph could not be written, simplified or checked."""


class ManifestError(SamtrtError):
    """A model directory's `samtrt.json` is missing, unreadable, or disagrees with its files."""


class BackendError(SamtrtError):
    """A backend cannot be used here, cannot load a model, or failed while running it."""


class DeviceMemoryError(BackendError):
    """A GPU has less memory left than was asked for."""


class EngineError(BackendError):
    """A TensorRT engine is missing, damaged, or was built for another model, version or GPU."""


class BuildError(SamtrtError):
    """A TensorRT engine could not be built."""


class PromptError(SamtrtError):
    """A point, box or mask prompt is not usable with the current image."""


class MaskError(SamtrtError):
    """A mask's run-length encoding is damaged, or is not of the size that it names."""


class ImageError(SamtrtError):
    """An image cannot be read, or is not an H x W x 3 array of uint8."""


class VerificationError(SamtrtError):
    """A backend's results could not be compared with the checkpoint's."""


class OutputError(SamtrtError):
    """A result cannot be written where it was asked for."""


class ClusterError(SamtrtError):
    """A Ray cluster cannot be reached, cannot do what was asked, or was lost."""


class RemoteError(SamtrtError):
    """The server could not be reached or did not do what was asked.

    Attributes:
        status: HTTP status, 0 where there was no answer.
        code: The server's short name for what is wrong.
    """

    def __init__(self, message: str, status: int = 0, code: str = "unreachable") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class MissingExtraError(SamtrtError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str, package: str) -> None:
        # As given, so that `type(error)(*error.args)` is the same error in another process.
        super().__init__(feature, extra, package)
        self.feature, self.extra, self.package = feature, extra, package

    def __str__(self) -> str:
        return (
            f"{self.feature} needs the package '{self.package}', which is not installed; "
            f"install it with: pip install 'samtrt[{self.extra}]'"
        )
