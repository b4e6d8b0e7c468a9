"""Choices that are facts of a model and words of the command line at once.

Apart from everything else, so that the command line can offer them without importing NumPy.
"""

from __future__ import annotations

from enum import Enum


class Stage(str, Enum):
    """The two parts that a model is split into. Each is one graph, or one TensorRT engine."""

    ENCODER = "encoder"
    DECODER = "decoder"

    @property
    def words(self) -> str:
        """What people are told."""
        return self.value


class VideoStage(str, Enum):
    """The further engines of a model that follows objects through videos."""

    MEMORY_ATTENTION = "memory_attention"
    MEMORY_ENCODER = "memory_encoder"
    VIDEO_DECODER = "video_decoder"

    @property
    def words(self) -> str:
        """What people are told."""
        return self.value.replace("_", " ")


AnyStage = Stage | VideoStage

EVERY_STAGE: tuple[AnyStage, ...] = (*Stage, *VideoStage)


class Family(str, Enum):
    """Which image encoder a SAM has."""

    VIT = "vit"
    """The official SAM's, and SAM-HQ's."""
    TINY_VIT = "tiny_vit"
    """MobileSAM's and Light HQ-SAM's."""
    EFFICIENTVIT = "efficientvit"
    """EfficientViT-SAM's."""
    HIERA = "hiera"
    """SAM 2's."""
    REPVIT = "repvit"
    """EdgeTAM's."""


class Generation(str, Enum):
    """What stands around the two graphs: how prompts are completed and masks are formed."""

    SAM = "sam"
    """A padding point stands where there is no box; masks go to the model's square first, then to
    the image."""
    SAM2 = "sam2"
    """A padding point stands behind all points and boxes; masks go to the image at once, and
    low-res logits that are given back are limited."""


class MaskChoice(str, Enum):
    """Which of a decoder's masks answer a prompt."""

    SAM = "sam"
    """Of four, the last three for an ambiguous prompt or the first for any other."""
    BEST = "best"
    """As `sam`, but of those three the one with the best score alone (SAM-HQ)."""
    STABLE = "stable"
    """As `sam`, but where the first is unstable the best-scored of the three (SAM 2)."""


class Precision(str, Enum):
    """What a graph computes in. Inputs and outputs are float32 in every precision."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


class Quantization(str, Enum):
    """How int8 layers scale their inputs."""

    DYNAMIC = "dynamic"
    """By the range at each run."""
    STATIC = "static"
    """By the range on the images that it was calibrated with."""


class AttentionForm(str, Enum):
    """How decomposed relative positions enter the encoder's attention. All forms are exact."""

    ADD = "add"
    """Scores plus two broadcast terms, then softmax, as the official code writes it."""
    TILED = "tiled"
    """As `add`, for some rows of queries at a time: faster on CPUs, in under half the memory."""
    MASK = "mask"
    """The two terms as the additive mask of `scaled_dot_product_attention`: fastest in PyTorch on
    a CPU. Its ONNX form is `add`, so it is not exported."""
    FOLDED = "folded"
    """The two terms folded into longer q and k, so that plain attention gives them."""
    PLUGIN = "plugin"
    """An operator of our own, for TensorRT with our plugin library; elsewhere its ONNX function.
    The decoder is exported with operators of the library too."""


class ValueScale(str, Enum):
    """Which range pixels are brought to before mean and standard deviation."""

    BYTE = "0..255"
    """As they are; the official SAM."""
    UNIT = "0..1"
    """Divided by 255, as `ToTensor` and Hugging Face's processors do."""
    MINMAX = "minmax"
    """The least value of the resized image becomes 0 and the greatest 1, as in MedSAM's data."""


class Resize(str, Enum):
    """How an image gets the encoder's square."""

    LONGEST = "longest"
    """Its longest side fills the square; zeros at the right or the bottom fill the rest (SAM)."""
    STRETCH = "stretch"
    """Both sides fill the square, whatever the image's proportions (SAM 2, MedSAM)."""


class ResizeFilter(str, Enum):
    """Pillow's filters, antialiased but for `nearest`."""

    NEAREST = "nearest"
    BOX = "box"
    BILINEAR = "bilinear"
    HAMMING = "hamming"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class PixelWork(str, Enum):
    """Where images are prepared and masks are formed."""

    DEVICE = "device"
    """Where both stages run: on a GPU, by kernels compiled at run time, for TensorRT's engines."""
    HOST = "host"
    """On the host, wherever the stages run."""


class JpegWork(str, Enum):
    """Where JPEG files are decoded."""

    HOST = "host"
    """By Pillow, as all other files."""
    GPU = "gpu"
    """By nvImageCodec, where images are prepared on a GPU."""


class Target(str, Enum):
    """What `samtrt build` compiles for. The backends that run the engines have the same names."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


class Float32Part(str, Enum):
    """A part of the graphs that may stay in float32 where the rest computes in half precision."""

    NORMS = "norms"
    """Layer norms, whose variance overflows float16 in the larger models, and means over an image,
    whose sum may."""
    PROMPTS = "prompts"
    """All that does not depend on the image: sines of coordinates, mask prompts."""
    SOFTMAX = "softmax"
    """Attention's softmax. Costs TensorRT its fused attention; for models that need it."""

    DIVISIONS = "divisions"
    """Divisions by a sum of products, and these products: linear attention's, whose sum may be too
    small for half precision, or nothing."""
    SUMS = "sums"
    """Sums of residual connections, and what carries them: every block rounds them anew. Of use in
    bfloat16, which has 8 bits."""


DEFAULT_FLOAT32 = (Float32Part.NORMS, Float32Part.PROMPTS, Float32Part.DIVISIONS)
"""In engines, and in float16."""


class HardwareCompatibility(str, Enum):
    """Which other GPUs may run a TensorRT engine."""

    AMPERE_PLUS = "ampere+"
    SAME_CAPABILITY = "same-capability"


class BackendName(str, Enum):
    """A runtime for the two stages."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    OPENVINO_BF16 = "openvino-bf16"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"
    PYTORCH = "pytorch"


class TritonPlatform(str, Enum):
    """What runs encoder and decoder within Triton Inference Server."""

    PYTHON = "python"
    """Its Python backend, with any runtime of samtrt."""
    ONNXRUNTIME = "onnxruntime"
    """Its ONNX Runtime backend, on the graphs."""
    TENSORRT = "tensorrt"
    """Its TensorRT backend, on the engines of `samtrt build`."""


class Direction(str, Enum):
    """Which way in time objects are followed."""

    FORWARD = "forward"
    BACKWARD = "backward"
    BOTH = "both"


class BoxForm(str, Enum):
    """Forms of boxes in files that cannot always be told from the file."""

    YOLO = "yolo"
    """Lines `class x y w h`, perhaps with a confidence and an id."""
    YOLO_SEGMENT = "yolo-segment"
    """Lines of polygons or oriented boxes."""
    YOLO_POSE = "yolo-pose"
    """Lines of boxes with keypoints."""
    XYXY = "xyxy"
    """Two corners, in a CSV without header or a JSON list."""
    XYWH = "xywh"
    """A corner and the size."""


class OutputFormat(str, Enum):
    """What runs over many images write beside COCO JSON, each in a place of its name."""

    OVERLAY = "overlay"
    """Pictures with their masks drawn."""
    LABELMAP = "labelmap"
    """PNG with a palette whose values are the numbers of masks."""
    LABELME = "labelme"
    """Polygons for labelme."""
    YOLO = "yolo"
    """A data set for Ultralytics: data.yaml, images, labels."""
    PANOPTIC = "panoptic"
    """COCO's panoptic form."""
    CVAT = "cvat"
    """CVAT for images 1.1, XML."""
    LABELSTUDIO = "labelstudio"
    """Label Studio's tasks."""
    GEOJSON = "geojson"
    """Polygons in longitude and latitude, of pictures that say where they are."""
    GEOTIFF = "geotiff"
    """Numbers of masks where the picture lies."""


class Segmentation(str, Enum):
    """How COCO datasets of many images give masks."""

    RLE = "rle"
    """Run lengths, lossless."""
    POLYGONS = "polygons"
    """Polygons along the edges of pixels; holes are lost."""


SPECKS = 16
"""Cells of low-res logits that a part of a mask has at least, where specks are removed by default:
4 x 4 cells are 16 x 16 pixels of a picture of 1024."""
MOST_SPECKS = 10_000
"""More cells than that are an object."""
