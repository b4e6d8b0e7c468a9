"""The official packages, to measure and to check against.

They import torchvision for a few functions, and torchvision has no CPU-only build on PyPI; TinyViT
imports timm for three. `oracle_package` puts stand-ins for those in `sys.modules` for as long as
the import takes.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from PIL import Image

from samtrt.registry import EfficientViTSpec, ModelSpec, TinyViTSpec, ViTSpec


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """As torchvision's `resize` does for a PIL image: antialiased bilinear, (h, w)."""
    return image.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def _nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Greedy NMS by definition: visit by score, drop what overlaps a kept box too much."""
    order = torch.argsort(scores, descending=True, stable=True).tolist()
    keep: list[int] = []
    for i in order:
        if all(_box_iou(boxes[i], boxes[j]) <= threshold for j in keep):
            keep.append(i)
    return torch.tensor(keep, dtype=torch.long)


def _box_iou(a: torch.Tensor, b: torch.Tensor) -> float:
    size = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
    inter = size.prod()
    return float(inter / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inter))


def _batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    if not len(boxes):
        return torch.zeros(0, dtype=torch.int64)
    offset = idxs.to(boxes) * (boxes.max() + 1)
    return _nms(boxes + offset[:, None], scores, iou_threshold)


def _box_area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


class _Compose:
    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps

    def __call__(self, value: Any) -> Any:
        for step in self.steps:
            value = step(value)
        return value


class _Normalize:
    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean, self.std = (torch.tensor(one)[:, None, None] for one in (mean, std))

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return (image - self.mean) / self.std


def box_stand_ins() -> dict[str, Any]:
    """Return what the packages need of `torchvision.ops.boxes`."""
    return {"batched_nms": _batched_nms, "box_area": _box_area}


def _stand_ins() -> dict[str, dict[str, Any]]:
    return {
        "torchvision": {},
        "torchvision.transforms": {
            "Compose": _Compose,
            "ToTensor": lambda: lambda image: torch.from_numpy(image).permute(2, 0, 1) / 255,
            "Normalize": _Normalize,
        },
        "torchvision.transforms.functional": {
            "resize": _resize,
            "to_pil_image": lambda array: Image.fromarray(array),
        },
        "torchvision.ops": {},
        "timm": {},
        "timm.models": {},
        "timm.models.layers": {
            "DropPath": torch.nn.Identity,  # at a rate of 0 it is not even made
            "to_2tuple": lambda value: (value, value),
            "trunc_normal_": torch.nn.init.trunc_normal_,
        },
        "timm.models.registry": {"register_model": lambda make: make},
        "torchvision.ops.boxes": box_stand_ins(),
    }


@contextmanager
def standing_in(members: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Put modules of these names, with these members, into `sys.modules` meanwhile."""
    saved = {name: sys.modules.get(name) for name in members}
    for name, attributes in members.items():
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(attributes)
    try:
        yield
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def segment_anything_oracle() -> types.ModuleType:
    """Import `segment_anything` with the stand-in for torchvision."""
    return oracle_package("segment_anything")


@cache
def oracle_package(name: str, *modules: str) -> types.ModuleType:
    """Import a package like `segment_anything`, and what is named of it, with the stand-ins."""
    with standing_in(_stand_ins()):
        for module in modules or ("automatic_mask_generator",):
            importlib.import_module(f"{name}.{module}")
        return importlib.import_module(name)


def official_transform(image_size: int) -> Any:
    """Return the official `ResizeLongestSide`."""
    segment_anything_oracle()
    from segment_anything.utils.transforms import ResizeLongestSide

    return ResizeLongestSide(image_size)


def official_sam(spec: ModelSpec) -> torch.nn.Module:
    """Build the official model in the shape of `spec`; its own `build_sam.py` knows some."""
    if isinstance(spec, EfficientViTSpec):
        return _efficientvit_sam(spec)
    modeling = importlib.import_module(f"{package_of(spec).__name__}.modeling")
    encoder = (
        _official_vit(modeling, spec) if isinstance(spec, ViTSpec) else _tiny_vit(modeling, spec)
    )
    return _official_parts(modeling, spec, encoder)


def _efficientvit_sam(spec: EfficientViTSpec) -> torch.nn.Module:
    """Build EfficientViT-SAM; the official code takes embeddings of 64 x 64 alone."""
    package_of(spec)
    official = importlib.import_module("efficientsam.models.efficientvit")
    attention = f"att@{spec.kernel}"
    backbone = official.EfficientViTLargeBackbone(
        width_list=list(spec.widths),
        depth_list=list(spec.depths),
        block_list=["res", *(attention if one == "att" else one for one in spec.blocks)],
        expand_list=[1, *(4 for _ in spec.blocks[1:]), 6],
        fewer_norm_list=[False, *spec.fewer_norms],
        qkv_dim=spec.head_dim,
    )
    last = len(spec.widths) - 1
    stages = [last, last - 1, last - 2]
    neck = official.SamNeck(
        fid_list=[f"stage{i}" for i in stages],
        in_channel_list=[spec.widths[i] for i in stages],
        head_width=spec.neck_width,
        head_depth=spec.neck_depth,
        expand_ratio=spec.neck_ratio,
        middle_op="fmb",
    )
    encoder = official.EfficientViTSamImageEncoder(backbone, neck)
    sam = importlib.import_module("efficientsam.models.efficientvit.sam")
    model = sam.build_efficientvit_sam(encoder, spec.encoder_size)
    importlib.import_module("efficientsam.models.nn.norm").set_norm_eps(model, 1e-6)
    return model.eval()


def official_predictor(spec: ModelSpec, model: torch.nn.Module) -> Any:
    """Return the official predictor around a model of `official_sam`."""
    package = package_of(spec)
    if isinstance(spec, EfficientViTSpec):
        return package.models.efficientvit.EfficientViTSamPredictor(model)
    return package.SamPredictor(model)


def official_generator(spec: ModelSpec, model: torch.nn.Module, **options: Any) -> Any:
    """Return the official generator of automatic masks around a model of `official_sam`."""
    package = package_of(spec)
    if isinstance(spec, EfficientViTSpec):
        return package.models.efficientvit.EfficientViTSamAutomaticMaskGenerator(model, **options)
    return package.SamAutomaticMaskGenerator(model, **options)


def package_of(spec: ModelSpec) -> types.ModuleType:
    """Import the package that has the model's official code."""
    if isinstance(spec, EfficientViTSpec):
        return oracle_package("efficientsam", "models.efficientvit")
    if spec.hq:
        return oracle_package("segment_anything_hq")
    return oracle_package("segment_anything" if isinstance(spec, ViTSpec) else "mobile_sam")


def _tiny_vit(modeling: Any, spec: TinyViTSpec) -> torch.nn.Module:
    """Build TinyViT; the official code takes images of 1024 and a last width of 320 alone."""
    return modeling.TinyViT(
        img_size=spec.image_size,
        embed_dims=list(spec.widths),
        depths=list(spec.depths),
        num_heads=[1, *spec.heads],
        window_sizes=[7, *spec.windows],
        drop_path_rate=0.0,
    )


def _official_vit(modeling: Any, spec: ViTSpec) -> torch.nn.Module:
    return modeling.ImageEncoderViT(
        depth=spec.depth,
        embed_dim=spec.embed_dim,
        img_size=spec.image_size,
        mlp_ratio=spec.mlp_ratio,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        num_heads=spec.num_heads,
        patch_size=spec.patch_size,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=spec.global_attn_indexes,
        window_size=spec.window_size,
        out_chans=spec.prompt_embed_dim,
    )


def _official_parts(modeling: Any, spec: ModelSpec, encoder: torch.nn.Module) -> torch.nn.Module:
    size = (spec.embedding_size, spec.embedding_size)
    prompt_encoder = modeling.PromptEncoder(
        embed_dim=spec.prompt_embed_dim,
        image_embedding_size=size,
        input_image_size=(spec.image_size, spec.image_size),
        mask_in_chans=16,
    )
    hq = {"vit_dim": spec.early_dim} if spec.hq else {}
    decoder = (modeling.MaskDecoderHQ if spec.hq else modeling.MaskDecoder)(
        num_multimask_outputs=3,
        transformer=modeling.TwoWayTransformer(
            depth=2, embedding_dim=spec.prompt_embed_dim, mlp_dim=2048, num_heads=8
        ),
        transformer_dim=spec.prompt_embed_dim,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
        **hq,
    )
    return modeling.Sam(
        image_encoder=encoder,
        prompt_encoder=prompt_encoder,
        mask_decoder=decoder,
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    ).eval()
