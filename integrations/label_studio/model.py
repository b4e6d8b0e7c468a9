"""Label Studio ML backend: smart keypoints and rectangles in, brush strokes out.

SAMTRT_MODEL=http://127.0.0.1:8000 label-studio-ml start integrations/label_studio
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from label_studio_ml.exceptions import AnswerException
from label_studio_ml.model import LabelStudioMLBase
from label_studio_ml.response import ModelResponse

from regions import brush_region, prompts_of
from samtrt import __version__
from samtrt.errors import PromptError, SamtrtError
from samtrt.interactive import Segmenter


@cache
def segmenter() -> Segmenter:
    """Open the model once: Label Studio makes a `Segmentation` for every request."""
    return Segmenter.from_environment()


class Segmentation(LabelStudioMLBase):
    """Answers what somebody points at; tasks that nobody points at have no predictions."""

    def setup(self) -> None:
        self.set("model_version", f"samtrt {__version__}")

    def predict(
        self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **_: Any
    ) -> ModelResponse:
        """Answer one interaction; what is wrong with it is told in a line, with status 400."""
        regions = (context or {}).get("result")
        if not regions:
            return ModelResponse(predictions=[])
        try:
            results = self._segment(tasks[0], regions)
        except SamtrtError as error:
            raise AnswerException(400, str(error), {"traceback": ""}) from None
        if not results:
            return ModelResponse(predictions=[])
        score = sum(one["score"] for one in results) / len(results)
        return ModelResponse(predictions=[{"result": results, "score": score}])

    def _segment(self, task: dict[str, Any], regions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        from_name, to_name, value = self.get_first_tag_occurence("BrushLabels", "Image")
        known = self.label_interface.get_control(from_name).labels
        image = self._image(task, value)
        results = []
        for prompt in prompts_of(regions, segmenter().size_of(image)):
            if prompt.label not in known:
                raise PromptError(
                    f"BrushLabels {from_name!r} has no label {prompt.label!r}: give it the labels "
                    "of the keypoints and rectangles"
                )
            found = segmenter().segment(
                image, prompt.points or None, prompt.labels or None, prompt.box
            )
            if found.mask.any():
                results.append(brush_region(found, prompt.label, from_name, to_name))
        return results

    def _image(self, task: dict[str, Any], value: str) -> bytes:
        """Return the bytes of a task's picture, which Label Studio keeps by their address."""
        try:
            address = str(task["data"][value])
            return Path(self.get_local_path(address, task_id=task.get("id"))).read_bytes()
        except (OSError, LookupError, ValueError) as error:
            raise PromptError(
                f"the task's picture cannot be had ({' '.join(str(error).split())}): are "
                "LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY set?"
            ) from None
