"""The CUDA kernels, in an emulator and on a GPU: every value they write, against float32."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[2] / "bench"
SOURCES = Path(__file__).parents[2] / "src" / "samtrt" / "tensorrt" / "plugin" / "csrc"
EMULATOR = Path(__file__).parent / "emulator"

sys.path.insert(0, str(BENCH))
import kernel_cases  # noqa: E402
from kernel_cases import TOLERANCE, Inputs, Kernels  # noqa: E402
from samtrt.errors import BuildError  # noqa: E402
from samtrt.export.operators.registry import OPERATORS  # noqa: E402
from samtrt.registry import get_spec  # noqa: E402
from samtrt.tensorrt.plugin import compiler  # noqa: E402
from support.places import PLACES  # noqa: E402

TYPES = [pytest.param(dtype, id=str(dtype)) for dtype in TOLERANCE]


@pytest.fixture(scope="module", params=PLACES)
def kernels(request: pytest.FixtureRequest, shared: Callable[..., Path]) -> Kernels:
    """The kernels; where they are emulated, those that every GPU runs."""
    if request.param == "gpu":
        if not torch.cuda.is_available():
            pytest.skip("this PyTorch has no CUDA")
        if library := os.environ.get("SAMTRT_PLUGIN"):
            return Kernels(Path(library).resolve())
        return Kernels(shared("kernels of a GPU", compile_for_gpu) / "kernels.so")
    if not shutil.which("g++"):
        pytest.skip("needs g++ to compile the kernels")
    return Kernels(shared("kernels", compile_kernels) / "kernels.so", "cpu")


@pytest.fixture
def hopper(kernels: Kernels) -> Iterator[Kernels]:
    """The kernels with those of Hopper, which a GPU that is one chooses by itself."""
    if kernels.device == "cuda":
        yield kernels
        return
    kernels.library.emulate_capability(9)
    yield kernels
    kernels.library.emulate_capability(8)


def compile_for_gpu(folder: Path) -> None:
    """Compile what needs no TensorRT for the GPU at hand."""
    try:
        nvcc = compiler.find_nvcc()
    except BuildError as error:
        pytest.skip(f"{error}; or name a compiled plugin library in SAMTRT_PLUGIN")
    command = compiler.nvcc_command(
        nvcc, folder, [compiler.architecture_here()], folder / "kernels.so"
    )
    subprocess.run([word for word in command if not word.endswith("plugin.cpp")], check=True)


def compile_kernels(folder: Path) -> None:
    sources = [*SOURCES.glob("*.cu"), SOURCES / "capi.cpp", *EMULATOR.glob("*.cpp")]
    flags = [
        "-std=c++17",
        "-O1",
        "-w",
        "-fPIC",
        "-DSAMTRT_EMULATED",
        "-DSAMTRT_HOPPER",
        "-D__CUDA_ARCH_FEAT_SM90_ALL",
        f"-I{EMULATOR}",
        f"-I{SOURCES}",
    ]
    running = [
        subprocess.Popen(
            ["g++", *flags, "-x", "c++", "-c", str(path), "-o", str(folder / f"{path.stem}.o")],
            stderr=subprocess.PIPE,
            text=True,
        )
        for path in sources
    ]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    library = folder / "kernels.so"
    objects = [str(folder / f"{path.stem}.o") for path in sources]
    subprocess.run(["g++", "-shared", *objects, "-o", str(library)], check=True)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def check(case: kernel_cases.Case) -> None:
    assert all(output.isnan().all() for output in case.outputs)
    case.run()
    assert case.error() <= TOLERANCE[case.dtype]


def test_kernels_are_of_the_operators_that_graphs_have(kernels: Kernels) -> None:
    """Types of inputs and outputs, and attributes, as both languages declare them."""
    kernels.library.samtrt_operators.restype = ctypes.c_char_p
    listed = [line.split() for line in kernels.library.samtrt_operators().decode().splitlines()]
    assert [name for name, *_ in listed] == list(OPERATORS)
    for name, kinds, *attributes in listed:
        operator = OPERATORS[name]
        made = "".join("f" if one in operator.float32 else "h" for one in operator.outputs)
        taken = "".join("f" if one in operator.float32 else "h" for one in operator.inputs)
        assert re.sub("[grp]", "h", kinds) == f"{taken}>{made}", name
        assert attributes == list(operator.attributes), name


SQUARES = {
    "squares of one block": ((16, 2, 96), 8, 1),
    "pooled": ((16, 2, 96), 8, 2),
    "few tokens": ((8, 1, 56), 4, 1),
    "few tokens, pooled": ((8, 1, 56), 4, 2),
    "padded": ((16, 2, 72), 14, 1),
    "padded and pooled": ((16, 1, 72), 14, 2),
    "an odd side": ((9, 1, 96), 7, 1),
    "whole blocks": ((16, 1, 72), 16, 1),
    "the whole grid": ((18, 2, 56), 0, 1),
    "the whole grid, pooled": ((18, 1, 56), 0, 2),
}
"""Grid, heads and their width, side of the squares, by which queries are pooled."""


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("sizes", "window", "stride"), SQUARES.values(), ids=SQUARES)
def test_attention_in_squares(
    kernels: Kernels, dtype: torch.dtype, sizes: tuple[int, int, int], window: int, stride: int
) -> None:
    inputs = Inputs(dtype, kernels.device)
    check(kernel_cases.square_attention(kernels, sizes, window, stride, inputs, batch=2))


MEMORIES = {
    "parts of keys": (1, 128, 300, 64),
    "parts of keys of the frame": (1, 64, 192, 256),
    "few queries, an odd number of keys": (2, 50, 77, 64),
    "more objects than slots": (133, 4, 8, 64),
    "more objects than slots, wide": (133, 4, 8, 256),
}
"""Objects, queries, keys, and channels of values."""


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("sizes", MEMORIES.values(), ids=MEMORIES)
def test_attention_to_memories(
    hopper: Kernels, dtype: torch.dtype, sizes: tuple[int, int, int, int]
) -> None:
    inputs = Inputs(dtype, hopper.device)
    for masks in {1, sizes[0]}:
        check(kernel_cases.memory_attention(hopper, sizes, inputs, masks))


def test_attention_to_memories_is_for_hopper(kernels: Kernels) -> None:
    if kernels.device == "cuda":
        pytest.skip("on a GPU, which may be one")
    with pytest.raises(RuntimeError, match="CUDA error 801"):
        kernel_cases.memory_attention(
            kernels, (1, 8, 8, 64), Inputs(torch.float16, kernels.device)
        ).run()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("width", "window"), [(32, 14), (64, 0), (80, 14)], ids=["windows", "global", "head of 80"]
)
def test_attention(kernels: Kernels, dtype: torch.dtype, width: int, window: int) -> None:
    spec = replace(get_spec("vit_t"), embed_dim=width, num_heads=1)
    check(kernel_cases.attention(kernels, spec, window, 1, Inputs(dtype, kernels.device)))


def test_attention_over_a_grid_of_48(kernels: Kernels) -> None:
    """Whose rows are no power of two; that of the bundled checkpoint."""
    spec = replace(get_spec("vit_t"), image_size=768, embed_dim=32, num_heads=1)
    check(kernel_cases.attention(kernels, spec, 0, 1, Inputs(torch.float16, kernels.device)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [64, 80])
@pytest.mark.parametrize("grid", [14, 22], ids=["one window", "four windows, padded"])
def test_attention_in_windows_on_hopper(
    hopper: Kernels, grid: int, width: int, dtype: torch.dtype
) -> None:
    check_windows_on_hopper(hopper, grid, 1, width, 1, dtype)


@pytest.mark.long
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [64, 80])
@pytest.mark.parametrize(
    ("grid", "batch"),
    [(16, 1), (9, 2), (41, 1)],
    ids=["narrow edge", "no whole window", "wide edge"],
)
def test_attention_in_windows_of_more_grids_on_hopper(
    hopper: Kernels, grid: int, batch: int, width: int, dtype: torch.dtype
) -> None:
    check_windows_on_hopper(hopper, grid, batch, width, 2, dtype)


def check_windows_on_hopper(
    hopper: Kernels, grid: int, batch: int, width: int, heads: int, dtype: torch.dtype
) -> None:
    spec = replace(
        get_spec("vit_t"), image_size=16 * grid, embed_dim=heads * width, num_heads=heads
    )
    check(kernel_cases.attention(hopper, spec, 14, batch, Inputs(dtype, hopper.device)))


@pytest.mark.parametrize(
    "dtype", [pytest.param(torch.float16, marks=pytest.mark.long), torch.bfloat16], ids=str
)
@pytest.mark.parametrize("width", [64, 80])
def test_attention_over_a_whole_grid_on_hopper(
    hopper: Kernels, width: int, dtype: torch.dtype
) -> None:
    spec = replace(get_spec("vit_b"), embed_dim=width, num_heads=1)
    check(kernel_cases.attention(hopper, spec, 0, 1, Inputs(dtype, hopper.device)))


@pytest.mark.parametrize("dtype", TYPES)
def test_linear_gelu_on_hopper(hopper: Kernels, dtype: torch.dtype) -> None:
    spec = get_spec("vit_t")
    check(kernel_cases.linear_gelu(hopper, spec, Inputs(dtype, hopper.device)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("added", [False, True])
def test_layer_norm(kernels: Kernels, dtype: torch.dtype, added: bool) -> None:
    spec = replace(get_spec("vit_t"), image_size=48, embed_dim=392)  # not whole warps of channels
    check(kernel_cases.layer_norm(kernels, spec, added, Inputs(dtype, kernels.device)))


def test_layer_norm_of_a_sum_that_nobody_needs(kernels: Kernels) -> None:
    spec = replace(get_spec("vit_t"), image_size=48)
    check(
        kernel_cases.layer_norm(kernels, spec, True, Inputs(torch.float16, kernels.device), False)
    )


@pytest.mark.parametrize("dtype", TYPES)
def test_layer_norm_with_places(kernels: Kernels, dtype: torch.dtype) -> None:
    """Of a batch, whose images have the same places."""
    spec = replace(get_spec("vit_t"), image_size=48, embed_dim=392)
    check(kernel_cases.place_layer_norm(kernels, spec, 2, Inputs(dtype, kernels.device)))


@pytest.mark.parametrize("dtype", TYPES)
def test_gelu(kernels: Kernels, dtype: torch.dtype) -> None:
    spec = replace(get_spec("vit_t"), image_size=48, embed_dim=40)  # not whole thread blocks
    for by_tanh in (False, True):
        check(kernel_cases.gelu(kernels, spec, Inputs(dtype, kernels.device), by_tanh))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [144, 256], ids=["ragged", "whole"])
def test_linear_gelu(kernels: Kernels, dtype: torch.dtype, size: int) -> None:
    """Rows that are no whole thread blocks, and rows that are, for which Hopper has a kernel."""
    spec = replace(get_spec("vit_t"), image_size=size)
    check(kernel_cases.linear_gelu(kernels, spec, Inputs(dtype, kernels.device)))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("floats", [False, True], ids=["in the type", "in float32"])
def test_patches(kernels: Kernels, dtype: torch.dtype, floats: bool) -> None:
    spec = replace(get_spec("vit_t"), image_size=48)
    check(kernel_cases.patches(kernels, spec, floats, Inputs(dtype, kernels.device)))


@pytest.mark.parametrize("dtype", TYPES)
def test_embed_masks(kernels: Kernels, dtype: torch.dtype) -> None:
    inputs = Inputs(dtype, kernels.device)
    check(kernel_cases.embed_masks(kernels, 8, 3, True, inputs))
    check(kernel_cases.embed_masks(kernels, 8, 3, False, inputs, images=3))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("side", "prompts", "tokens"), [(8, 1, 7), (16, 2, 9), (8, 2, 25)])
def test_tokens_to_image(
    kernels: Kernels, dtype: torch.dtype, side: int, prompts: int, tokens: int
) -> None:
    check(
        kernel_cases.tokens_to_image(kernels, side, prompts, tokens, Inputs(dtype, kernels.device))
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("tokens", [7, 8, 13, 24, 32])
def test_image_to_tokens(kernels: Kernels, dtype: torch.dtype, tokens: int) -> None:
    check(kernel_cases.image_to_tokens(kernels, 8, 2, tokens, Inputs(dtype, kernels.device)))


@pytest.mark.parametrize("dtype", TYPES)
def test_upscale_masks(kernels: Kernels, dtype: torch.dtype) -> None:
    check(kernel_cases.upscale_masks(kernels, 8, 2, Inputs(dtype, kernels.device)))


SIZES = pytest.mark.parametrize(
    ("prompts", "tokens"), [(1, 5), (1, 25), (3, 7), (10, 7)], ids=lambda value: str(value)
)
"""Of one tile of 16 rows, of several, of prompts that lie across tiles."""


@SIZES
@pytest.mark.parametrize("is_first", [False, True])
def test_self_attention(kernels: Kernels, prompts: int, tokens: int, is_first: bool) -> None:
    inputs = Inputs(torch.float16, kernels.device)
    check(kernel_cases.self_attention(kernels, prompts, tokens, is_first, inputs))


@SIZES
@pytest.mark.parametrize("wanted", [0, 5])
def test_image_queries(kernels: Kernels, prompts: int, tokens: int, wanted: int) -> None:
    inputs = Inputs(torch.float16, kernels.device)
    check(kernel_cases.image_queries(kernels, prompts, tokens, wanted, inputs))


@SIZES
def test_token_keys(kernels: Kernels, prompts: int, tokens: int) -> None:
    check(kernel_cases.token_keys(kernels, prompts, tokens, Inputs(torch.float16, kernels.device)))


@pytest.mark.parametrize(("prompts", "tokens"), [(1, 7), (3, 7), (17, 5)])
def test_token_heads(kernels: Kernels, prompts: int, tokens: int) -> None:
    check(kernel_cases.token_heads(kernels, prompts, tokens, Inputs(torch.float16, kernels.device)))


@pytest.mark.parametrize(("prompts", "tokens"), [(1, 7), (10, 7), (19, 7)], ids=str)
def test_token_mlp(kernels: Kernels, prompts: int, tokens: int) -> None:
    """Each of the three ways to share the work out."""
    check(kernel_cases.token_mlp(kernels, prompts, tokens, Inputs(torch.float16, kernels.device)))


@pytest.mark.parametrize(
    "case",
    [
        lambda *some: kernel_cases.self_attention(*some[:3], False, some[3]),
        lambda *some: kernel_cases.image_queries(*some[:3], 0, some[3]),
        kernel_cases.token_mlp,
        kernel_cases.token_keys,
        kernel_cases.token_heads,
    ],
    ids=["self attention", "queries", "MLP", "keys", "heads"],
)
def test_token_work_in_bfloat16(kernels: Kernels, case: Callable[..., kernel_cases.Case]) -> None:
    check(case(kernels, 2, 7, Inputs(torch.bfloat16, kernels.device)))


def test_workspace_of_tokens_is_enough_for_fewer(kernels: Kernels) -> None:
    """As much as the kernels use of it: parts for each split, normed rows, attended values."""
    for most in (1, 2, 8, 9, 64):
        there = kernels.library.samtrt_token_mlp_workspace(most, 25)
        for rows in range(1, most * 25 + 1):
            splits = 32 if rows <= 64 else 16
            assert rows * (splits * 256 * 4 + (256 + 128) * 2) <= there


def test_sizes_without_kernels_are_refused(kernels: Kernels) -> None:
    inputs = Inputs(torch.float16, kernels.device)
    for case in (
        kernel_cases.layer_norm(kernels, replace(get_spec("vit_t"), embed_dim=1288), True, inputs),
        kernel_cases.tokens_to_image(kernels, 3, 1, 7, inputs),
        kernel_cases.image_to_tokens(kernels, 8, 1, 33, inputs),
        kernel_cases.image_to_tokens(kernels, 4, 1, 7, inputs),
        kernel_cases.upscale_masks(kernels, 6, 1, inputs),
        kernel_cases.embed_masks(kernels, 6, 1, True, inputs),
        kernel_cases.self_attention(kernels, 1, 33, False, inputs),
        kernel_cases.token_heads(kernels, 1, 4, inputs),
    ):
        with pytest.raises(RuntimeError, match="CUDA error 1"):
            case.run()


@pytest.mark.parametrize(
    ("channels", "supported"), [(8, 1), (1280, 1), (1288, 0), (1284, 0), (0, 0), (-8, 0)]
)
def test_widths_of_norms_are_known_before_a_build(
    kernels: Kernels, channels: int, supported: int
) -> None:
    assert kernels.library.samtrt_layer_norm_supported(channels) == supported


def test_workspace_is_enough_for_fewer_prompts_and_rows(kernels: Kernels) -> None:
    """An engine has one workspace, of its largest shapes, for all of them."""
    part = 64 * 258 * 4
    for most in (1, 2, 8, 64):
        for prompts in range(1, most + 1):
            for rows in (8, 64, 65, 200):
                chunks = -(-rows // 64)
                splits = max(1, min(264 // (prompts * chunks), 64))
                assert prompts * splits * chunks * part <= kernels.workspace(most, 200)
