"""How images are prepared is read from what lies beside the weights, else said by the user."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samtrt.checkpoints import hugging_face
from samtrt.checkpoints.load import load_checkpoint
from samtrt.choices import Resize, ResizeFilter, ValueScale
from samtrt.errors import CheckpointError
from samtrt.preparation.spec import OFFICIAL, Preparation, PreparationChanges
from support.checkpoint_cases import SPEC, State, refusal

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SIDE = 1024
SAM_JSON: dict[str, Any] = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_pad": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "image_processor_type": "SamImageProcessor",
    "pad_size": {"height": SIDE, "width": SIDE},
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"longest_edge": SIDE},
}


def read(directory: Path, **changes: object) -> Preparation | None:
    about = {**SAM_JSON, **changes}
    (directory / "preprocessor_config.json").write_text(json.dumps(about))
    return hugging_face.read_preparation(directory, SIDE)


def test_the_published_one_is_the_official_preparation(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found == Preparation(scale=ValueScale.UNIT, **IMAGENET)
    assert [255 * value for value in found.mean] == pytest.approx(OFFICIAL.mean)
    assert [255 * value for value in found.std] == pytest.approx(OFFICIAL.std)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"size": {"height": SIDE, "width": SIDE}}, {"resize": Resize.STRETCH}),
        ({"size": SIDE}, {"resize": Resize.STRETCH}),
        ({"do_normalize": False}, {"mean": (0, 0, 0), "std": (1, 1, 1)}),
        ({"image_mean": 0.5, "image_std": 0.5}, {"mean": (0.5,) * 3, "std": (0.5,) * 3}),
        ({"resample": 3}, {"filter": ResizeFilter.BICUBIC}),
        (
            {"do_rescale": False, "image_mean": [123, 116, 103], "image_std": [58, 57, 57]},
            {"scale": ValueScale.BYTE, "mean": (123, 116, 103), "std": (58, 57, 57)},
        ),
        (
            {"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]},
            {"scale": ValueScale.BYTE, "mean": (127.5,) * 3, "std": (127.5,) * 3},
        ),
    ],
    ids=str,
)
def test_what_it_says_is_obeyed(
    tmp_path: Path, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    values = {"scale": ValueScale.UNIT, **IMAGENET, **expected}
    assert read(tmp_path, **changes) == Preparation(**values)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"do_resize": False}, "do_resize is false"),
        ({"do_pad": False}, "not padded"),
        ({"pad_size": {"height": 512, "width": SIDE}}, "not padded to 1024 x 1024"),
        ({"size": {"longest_edge": 512}}, "size is {'longest_edge': 512}, and the model takes"),
        ({"size": {"height": SIDE, "width": 512}}, "the model takes 1024 x 1024"),
        ({"size": {"shortest_edge": SIDE}}, "size is"),
        ({"size": "large"}, "size is 'large'"),
        ({"resample": 9}, "resample is 9, not 0 to 5"),
        ({"resample": -1}, "resample is -1"),
        ({"resample": "bilinear"}, "resample is 'bilinear'"),
        ({"image_std": [0, 1, 1]}, "std above 0"),
        ({"image_mean": [123, 116, 103]}, "is of images in 0..255"),
        ({"image_mean": [1, 2]}, "values to unpack"),
        ({"rescale_factor": 0}, "rescale_factor is 0"),
        ({"do_rescale": False}, "is of images in 0..1"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, **changes)
    message = str(caught.value)
    assert message.startswith("preprocessor_config.json: ")
    assert said in message
    assert message.endswith("--scale, --mean, --std, --resize")
    assert "\n" not in message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(about=st.dictionaries(st.sampled_from(sorted(SAM_JSON)), json_values))
def test_any_json_is_read_or_refused(about: dict[str, Any]) -> None:
    try:
        found = hugging_face.preparation_of({**SAM_JSON, **about}, SIDE, "x.json")
    except CheckpointError as error:
        message = str(error)
    else:
        message = ""
        assert min(found.std) > 0
    assert "\n" not in message


def test_newer_directories_say_it_in_another_file(tmp_path: Path) -> None:
    assert hugging_face.read_preparation(tmp_path, SIDE) is None
    nested = {"image_processor": {**SAM_JSON, "resample": 3}, "processor_class": "SamProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    found = hugging_face.read_preparation(tmp_path, SIDE)
    assert found is not None
    assert found.filter is ResizeFilter.BICUBIC
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not a JSON object"):
        hugging_face.read_preparation(tmp_path, SIDE)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "sam2"}, "a 'sam2' model"),
        ({"vision_config": {"hidden_act": "relu"}}, "vision_config.hidden_act is 'relu', and"),
        ({"vision_config": {"layer_norm_eps": 1e-5}}, "vision_config.layer_norm_eps is 1e-05"),
        ({"vision_config": {"num_attention_heads": 4}}, "num_attention_heads is 4, and the tens"),
        ({"mask_decoder_config": {"hidden_act": "gelu"}}, "mask_decoder_config.hidden_act"),
        ({"mask_decoder_config": {"layer_norm_eps": 0.1}}, "mask_decoder_config.layer_norm_eps"),
        ({"prompt_encoder_config": {"hidden_act": "silu"}}, "prompt_encoder_config.hidden_act"),
        (  # it is what points are divided by
            {"prompt_encoder_config": {"image_size": 1024}},
            "prompt_encoder_config.image_size is 1024, and the tensors say 128",
        ),
        ({"prompt_encoder_config": {"patch_size": 8}}, "prompt_encoder_config.patch_size is 8"),
    ],
    ids=str,
)
def test_another_computation_is_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        hugging_face.check_config(tmp_path, SPEC)
    assert said in str(caught.value)


Save = Callable[[object], Path]


def pixels(mean: list[float], std: list[float]) -> State:
    return {
        "pixel_mean": torch.tensor(mean).reshape(3, 1, 1),
        "pixel_std": torch.tensor(std).reshape(3, 1, 1),
    }


def test_a_state_dict_says_its_normalisation(save: Save, state: State) -> None:
    path = save({"model": {**state, **pixels([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])}})
    assert load_checkpoint(path).preparation == Preparation(
        scale=ValueScale.UNIT, mean=(0.5,) * 3, std=(0.25,) * 3
    )
    path = save({**state, **pixels([120, 110, 100], [50, 50, 50])})
    assert load_checkpoint(path).preparation == Preparation(mean=(120, 110, 100), std=(50,) * 3)
    assert load_checkpoint(save(state)).preparation == OFFICIAL


@pytest.mark.parametrize(
    "mean",
    [
        torch.ones(3, dtype=torch.complex64),
        torch.ones(3, device="meta"),
        torch.ones(3).to_sparse(),
    ],
    ids=["complex", "meta", "sparse"],
)
def test_a_normalisation_that_is_no_numbers(save: Save, state: State, mean: torch.Tensor) -> None:
    told = refusal(save({**state, "pixel_mean": mean, "pixel_std": torch.ones(3)}))
    assert "pixel_mean holds no plain numbers" in told


def test_the_users_word_comes_first(save: Save, state: State) -> None:
    path = save({**state, **pixels([0, 0, 0], [1, 1, 1])})
    said = PreparationChanges(ValueScale.UNIT, (0, 0, 0), (1, 1, 1), Resize.STRETCH)
    assert load_checkpoint(path, preparation=said).preparation == Preparation(
        scale=ValueScale.UNIT, mean=(0, 0, 0), std=(1, 1, 1), resize=Resize.STRETCH
    )
    part = PreparationChanges(resize=Resize.STRETCH)
    found = load_checkpoint(save(state), preparation=part).preparation
    assert found == OFFICIAL.model_copy(update={"resize": Resize.STRETCH})
    wrong = PreparationChanges(ValueScale.BYTE, (0.4, 0.4, 0.4), (1, 1, 1))
    with pytest.raises(CheckpointError, match=r"sam\.pth: mean 0.4, .* is of images in 0..1"):
        load_checkpoint(path, preparation=wrong)
