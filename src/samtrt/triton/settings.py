"""What one version of a model in a repository is: written with it, and read where it runs."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from samtrt.choices import BackendName, Stage, TritonPlatform
from samtrt.errors import ManifestError
from samtrt.files import read_whole

SETTINGS_NAME = "samtrt-triton.json"

MIB = 1 << 20


class Limits(BaseModel):
    """What a client may ask for; more is refused.

    Attributes:
        max_upload_bytes: Of an image's file.
        max_pixels: Width times height of an image.
        max_side: The most that either may be.
        max_ratio: The most that one may be of the other.
        max_prompts: In one request.
        max_points: In one prompt, without the corners of its box.
        max_answer_bytes: Of masks and logits in one answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_upload_bytes: int = Field(32 * MIB, gt=0)
    max_pixels: int = Field(50_000_000, gt=0)
    max_side: int = Field(32_768, gt=0)
    max_ratio: int = Field(200, gt=0)
    max_prompts: int = Field(256, gt=0)
    max_points: int = Field(100, gt=0)
    max_answer_bytes: int = Field(96 * MIB, gt=0)


class Settings(BaseModel):
    """How the models of one version run.

    Attributes:
        encoder, decoder: Names of the models that run the two stages.
        platform: What runs them.
        backend: The runtime of samtrt that does, on the `python` platform.
        precision: What the encoder computes in.
        device: "cpu", "cuda" for each GPU that Triton sees, or "cuda:N".
        threads: CPU threads within one operation; 0 leaves it to the runtime.
        prompts_per_run: Prompts that the decoder gets at once; None for as many as suit it.
        most_points: Points of a prompt that the decoder's engine takes, box and padding included;
            None for any number.
        encoder_batch: Images that the encoder gets at once.
        cache_bytes: Embeddings that an instance keeps.
        limits: What is refused.
        version: Of samtrt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    decoder: str
    platform: TritonPlatform
    backend: BackendName | None
    precision: str
    device: str
    threads: int = Field(ge=0)
    prompts_per_run: int | None = Field(gt=0)
    most_points: int | None = Field(gt=0)
    encoder_batch: int = Field(gt=0)
    cache_bytes: int = Field(gt=0)
    limits: Limits
    version: str

    def name_of(self, stage: Stage) -> str:
        """Return the name of the model that runs a stage."""
        return self.encoder if stage is Stage.ENCODER else self.decoder

    @classmethod
    def load(cls, directory: Path) -> Settings:
        """Read `samtrt-triton.json` of a version's directory.

        Raises:
            ManifestError: where it is missing or not of this samtrt.
        """
        path = directory / SETTINGS_NAME
        again = "write the repository again with: samtrt triton"
        try:
            return cls.model_validate_json(read_whole(path))
        except OSError as error:
            raise ManifestError(f"cannot read {path}: {error.strerror or error}; {again}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole file"
            raise ManifestError(
                f"{path} is not of this samtrt: {where}: {first['msg']}; {again}"
            ) from None
