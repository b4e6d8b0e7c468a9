"""Options that a version or a model does not allow, and those that it does."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from samtrt.build.checks import check_options
from samtrt.build.options import BuildOptions, Range
from samtrt.choices import Float32Part, HardwareCompatibility, Precision, Target
from samtrt.errors import BuildError
from samtrt.tensorrt.api import load_api
from support.rtx_cases import needs_rtx
from support.samples import make_manifest
from support.weak_tensorrt import weak_api

WEAK = {"opset": 17}


def check(api: object, exported: dict[str, object], **options: object) -> None:
    check_options(api, make_manifest(**exported), BuildOptions(**options), Path("model"))


@pytest.mark.parametrize(
    ("exported", "options", "words"),
    [
        ({"opset": 20}, {}, r"opset 20 and TensorRT 8\.6\.0 parses up to 17; .* --opset 17"),
        (WEAK, {"batch": Range(min=1, opt=4, max=8)}, r"takes one; .* -o model --dynamic-batch"),
        (WEAK, {"prompts": Range(min=0, opt=1, max=8)}, "--prompts must begin at 1"),
        (
            {"opset": 17, "dynamic_batch": True},
            {"batch": Range(min=0, opt=4, max=8)},
            "--batch must begin at 1",
        ),
        (WEAK, {"precision": Precision.BF16}, "has no bf16; choose --precision fp16 or fp32"),
        (
            {"opset": 17, "precision": Precision.FP16},
            {"precision": Precision.FP32},
            "exported in fp16, from which fp32 cannot be made; .* --precision fp32",
        ),
        (WEAK, {"compute_capabilities": ("8.6",)}, "builds for the GPU at hand; --compute-capab"),
        (
            WEAK,
            {"hardware_compatible": HardwareCompatibility.SAME_CAPABILITY},
            "has no --hardware-compatible same-capability",
        ),
    ],
)
def test_refused_by_tensorrt_8(
    exported: dict[str, object], options: dict[str, object], words: str
) -> None:
    with pytest.raises(BuildError, match=words):
        check(weak_api(), exported, **options)


def test_allowed_by_tensorrt_8() -> None:
    check(weak_api(), WEAK, precision=Precision.FP16)
    check(weak_api(), {**WEAK, "precision": Precision.FP16})
    check(weak_api(), {**WEAK, "dynamic_batch": True}, batch=Range(min=1, opt=4, max=8))
    check(weak_api(), WEAK, batch=Range(min=1, opt=1, max=1))
    check(
        weak_api(),
        WEAK,
        hardware_compatible=HardwareCompatibility.AMPERE_PLUS,
        version_compatible=True,
    )


@needs_rtx
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"version_compatible": True}, "has no --version-compatible: .* --compute-capability"),
        (
            {"hardware_compatible": HardwareCompatibility.AMPERE_PLUS},
            "has no --hardware-compatible: ",
        ),
        ({"compute_capabilities": ("9.0",)}, r"'9\.0'; it knows 7\.5, 8\.0, 8\.6, 8\.9, 12\.0"),
        ({"compute_capabilities": ("ada",)}, "does not compile for compute capability 'ada'"),
    ],
)
def test_refused_by_rtx(options: dict[str, object], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        check(load_api(Target.TENSORRT_RTX), {}, **options)


@needs_rtx
def test_what_stays_in_float32_is_fixed_by_a_half_precision_export() -> None:
    api, half = load_api(Target.TENSORRT_RTX), {"precision": Precision.FP16}
    with pytest.raises(BuildError, match="exported in fp16, which fixes what is in float32"):
        check(api, half, float32=(Float32Part.SOFTMAX,))
    check(api, half)
    check(api, {}, precision=Precision.FP16, float32=(Float32Part.SOFTMAX,))


@needs_rtx
def test_allowed_by_rtx() -> None:
    api = load_api(Target.TENSORRT_RTX)
    for precision in Precision:
        check(api, {"opset": 22}, precision=precision)
    check(api, {}, compute_capabilities=("7.5", "12.1"))


@pytest.mark.parametrize(("text", "sizes"), [("1:4:8", (1, 4, 8)), ("3", (3, 3, 3))])
def test_range(text: str, sizes: tuple[int, int, int]) -> None:
    found = Range.parse(text, "--batch")
    assert (found.min, found.opt, found.max) == sizes
    assert Range.parse(str(found), "--batch") == found


@pytest.mark.parametrize("text", ["", "1:2", "4:2:8", "1:9:8", "a", "-1", "0", "1:2:3:4", "1.5"])
def test_no_range(text: str) -> None:
    with pytest.raises(BuildError, match=r"--points must be MIN:OPT:MAX .*; got '"):
        Range.parse(text, "--points")


def test_options_are_checked() -> None:
    with pytest.raises(ValidationError):
        BuildOptions(optimization_level=6)
    assert BuildOptions(compute_capabilities=("8.9", "8.6", "8.9")).compute_capabilities == (
        "8.6",
        "8.9",
    )
