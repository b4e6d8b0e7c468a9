// From image pixels to the decoder's inputs. The rules are those of samtrt's
// preparation/prompts.py, which follow the official SamPredictor and SAM2ImagePredictor.

import type { Generation, Prompt, Size } from "./types";

export interface PromptInputs {
  /** [1, count, 2] */
  readonly coords: Float32Array;
  /** [1, count]: -1 padding, 0 background, 1 foreground, 2 and 3 box corners */
  readonly labels: Float32Array;
  readonly count: number;
}

/**
 * A box is two more points behind the user's; without a box, and of SAM 2 always, a padding point
 * closes the list. `resized` is what the image of size `original` has become in the model's square.
 */
export function promptInputs(
  prompt: Prompt,
  original: Size,
  resized: Size,
  generation: Generation,
): PromptInputs {
  const scaleX = resized.width / original.width;
  const scaleY = resized.height / original.height;
  const rows: [number, number, number][] = prompt.points.map((p) => [p.x, p.y, p.label]);
  if (prompt.box) {
    rows.push([prompt.box.x1, prompt.box.y1, 2], [prompt.box.x2, prompt.box.y2, 3]);
  }
  if (!prompt.box || generation === "sam2") rows.push([0, 0, -1]);
  return {
    coords: Float32Array.from(rows.flatMap(([x, y]) => [x * scaleX, y * scaleY])),
    labels: Float32Array.from(rows, ([, , label]) => label),
    count: rows.length,
  };
}
