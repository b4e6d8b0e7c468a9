"""What whoever runs the server may set, with defaults that are safe on a laptop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samtrt.errors import SamtrtError

MIB = 1 << 20

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class SettingsError(SamtrtError):
    """The server was asked to run in a way that it refuses."""


@dataclass(frozen=True)
class Settings:
    """Limits and places. Bytes, seconds and counts as the names say.

    Attributes:
        token: What clients must send as `Authorization: Bearer TOKEN`; None for open access.
        allowed_hosts: Host names that requests may be addressed to; None for any. Guards a
            loopback server against pages that rebind their own name to 127.0.0.1.
        cors_origins: Origins whose pages may call the API besides our own.
        max_pixels: The most that an image's width times height may be. Decoding takes some eight
            bytes for each, which `memory_bytes` must have.
        max_side: The most that either may be.
        max_ratio: The most that one may be of the other: nothing is left of a side that the
            model's resize brings to less than a few pixels.
        max_points: Points in one prompt. Decoder memory grows with it.
        max_mask_pixels: Pixels of all masks that one request gives as prompts.
        max_answer_bytes: Bytes of the masks in one answer.
        upload_slots: Uploads being decoded or encoded at once; more are refused.
        prompt_slots: Prompts being answered at once, summed over requests.
        parse_slots: JSON bodies being parsed at once.
        encode_batch: Images in one encoder call, where the encoder's batch is dynamic.
        readers: Processes that decode images and masks; 0 for one a core, eight at most.
        body_bytes: Request bodies held at once, summed.
        answer_bytes: Answers being sent at once, summed.
        memory_bytes: What decoding images, and forming masks from logits, may take at once.
        request_seconds: For a request's body to arrive, and then for its answer to be ready.
        auto_seconds: For automatic masks to be ready.
        shutdown_seconds: For requests that were taken before a stop was asked for.
        cache_bytes: Embeddings held in memory. One of a SAM at 1024 pixels is 4 MiB,
            of a SAM-HQ 12, of a SAM 2 16.
        device_cache_bytes: Embeddings held on the GPU that encoded them, before they move to
            memory; some of them do earlier where the GPU is full.
        spill_dir: Where embeddings go that memory has no room for; None to drop them.
        spill_bytes: The most that they may take there.
        max_connections: Open connections; fewer where the system allows fewer files.
        header_seconds: For a request's head to arrive.
        idle_seconds: For the next request on a connection.
        stall_seconds: Without progress in what a client sends or takes.
        answer_seconds: For a client to take one answer; events of tracking have no such limit.
        videos_dir: Folder whose videos clients may name; None for none.
        max_video_bytes: Of an uploaded video.
        max_video_frames: Frames of a video.
        max_video_pixels: Width times height of its frames.
        max_video_objects: Objects that are followed through one video.
        video_slots: Videos that are open at once, each with a process that decodes it.
        video_bytes: Of one video, what is remembered of its objects; and again, what was found.
        video_idle_seconds: After which a video that nobody asks about makes room for another.
        video_upload_seconds: For a video's body to arrive.
        frame_seconds: For one frame to decode.
        heartbeat_seconds: Without an event of tracking before a sign of life is sent.
    """

    token: str | None = None
    allowed_hosts: frozenset[str] | None = frozenset(LOOPBACK)
    cors_origins: tuple[str, ...] = ()
    max_upload_bytes: int = 32 * MIB
    max_pixels: int = 50_000_000
    max_side: int = 32_768
    max_ratio: int = 200
    max_json_bytes: int = 4 * MIB
    max_prompts: int = 64
    max_points: int = 100
    max_mask_pixels: int = 256_000_000
    max_answer_bytes: int = 96 * MIB
    upload_slots: int = 32
    prompt_slots: int = 256
    parse_slots: int = 16
    auto_slots: int = 4
    encode_batch: int = 8
    decode_workers: int = 2
    readers: int = 0
    body_bytes: int = 128 * MIB
    answer_bytes: int = 256 * MIB
    memory_bytes: int = 320 * MIB
    request_seconds: float = 60.0
    auto_seconds: float = 300.0
    shutdown_seconds: float = 20.0
    cache_bytes: int = 1024 * MIB
    device_cache_bytes: int = 1024 * MIB
    spill_dir: Path | None = None
    spill_bytes: int = 8192 * MIB
    max_connections: int = 512
    header_seconds: float = 10.0
    idle_seconds: float = 30.0
    stall_seconds: float = 20.0
    answer_seconds: float = 300.0
    videos_dir: Path | None = None
    max_video_bytes: int = 256 * MIB
    max_video_frames: int = 20_000
    max_video_pixels: int = 4096 * 2304
    max_video_objects: int = 32
    video_slots: int = 4
    video_bytes: int = 256 * MIB
    video_idle_seconds: float = 600.0
    video_upload_seconds: float = 600.0
    frame_seconds: float = 20.0
    heartbeat_seconds: float = 10.0

    @property
    def max_json_values(self) -> int:
        """Values in one JSON body: far above any that keeps the other limits."""
        return 4 * self.max_prompts * (4 * self.max_points + 16)

    @property
    def max_json_texts(self) -> int:
        """Names and texts in one JSON body: twice what prompts with all their fields have."""
        return 16 * (self.max_prompts + 4)


def check_exposure(host: str, token: str | None, insecure: bool) -> frozenset[str] | None:
    """Return the allowed host names for a server bound to `host`.

    Raises:
        SettingsError: where others could reach the server and nothing would stop them.
    """
    if host in LOOPBACK:
        return None if token else frozenset(LOOPBACK)
    if not token and not insecure:
        raise SettingsError(
            f"--host {host} lets other machines in: set a token with --token-file or the "
            "environment variable SAMTRT_TOKEN, or say --insecure to allow everyone"
        )
    return None


def read_token(path: Path | None, variable: str | None) -> str | None:
    """Return the token from a file, else from the environment; never from the command line,
    where every user of the machine can read it.

    Raises:
        SettingsError: where the file cannot be read or the token is too short to be one.
    """
    token = variable
    if path is not None:
        try:
            token = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"cannot read the token from {path}: {error}") from None
    if token is None:
        return None
    token = token.strip()
    if len(token) < 16 or not token.isascii():
        raise SettingsError(
            "the token must have at least 16 ASCII characters; make one with: openssl rand -hex 16"
        )
    return token
