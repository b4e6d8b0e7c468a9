"""What of video files is read: a closed list of forms, and limits for what nobody vouches for.

FFmpeg knows forms that name further files and addresses (playlists, `concat`, `sdp`), and decoders
that nobody has looked at for twenty years: none of them is opened.
"""

from __future__ import annotations

from dataclasses import dataclass

from samtrt.errors import ImageError
from samtrt.images.limits import MAX_PIXELS

CONTAINERS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "ogg", "flv", "asf", "mxf", "dv"),
    *("ivf", "m4v", "h264", "hevc", "obu", "gif", "yuv4mpegpipe"),
)
"""FFmpeg's names of the forms of files that are read."""
CODECS = (
    *("h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "h263", "mjpeg"),
    *("theora", "prores", "dnxhd", "ffv1", "huffyuv", "rawvideo", "dvvideo", "gif", "flv1"),
    *("msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "wmv3", "vc1", "png"),
)
"""FFmpeg's names of the codecs that are read."""
OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(CONTAINERS),
    # Of decoders, with which FFmpeg looks into streams as it opens a file.
    "codec_whitelist": ",".join((*CODECS, "libdav1d", "libaom-av1", "libvpx", "libvpx-vp9")),
}
"""How FFmpeg opens a file."""


@dataclass(frozen=True)
class VideoLimits:
    """The most that one video may be.

    Attributes:
        frames: Of the whole video.
        pixels: Width times height.
        threads: Of its decoder, each of which holds frames; 0 leaves it to FFmpeg.
    """

    frames: int = 10_000_000
    pixels: int = MAX_PIXELS
    threads: int = 0

    def check_codec(self, name: str, what: str) -> None:
        """Raise `ImageError` for a codec that is not read."""
        if name not in CODECS:
            raise ImageError(
                f"{what} is coded as {name}, which is not read: bring it to H.264 with ffmpeg"
            )

    def check_size(self, width: int, height: int, what: str) -> None:
        """Raise `ImageError` for frames of more pixels than allowed."""
        if width * height > self.pixels:
            raise ImageError(
                f"{what} has frames of {width} x {height}, more than the limit of "
                f"{self.pixels:,} pixels: make it smaller with ffmpeg"
            )

    def check_count(self, count: int, what: str) -> None:
        """Raise `ImageError` for more frames than allowed."""
        if count > self.frames:
            raise ImageError(
                f"{what} has more than the limit of {self.frames:,} frames: cut it with ffmpeg"
            )
