// From image pixels to the decoder's inputs. The rules are those of samtrt's
// preparation/prompts.py and masks/logits.py, which follow the official SamPredictor and SAM2ImagePredictor.

import { eachSegment } from "./rle";
import type { Generation, Mask, Prompt, Size } from "./types";

export interface PromptInputs {
  /** [1, count, 2] */
  readonly coords: Float32Array;
  /** [1, count]: -1 padding, 0 background, 1 foreground, 2 and 3 box corners */
  readonly labels: Float32Array;
  readonly count: number;
}

/**
 * A box is two more points behind the user's; without a box, and of SAM 2 always, a padding point
 * closes the list, unless there is nothing but a mask. `resized` is what the image of size `original` has become in the model's square.
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
  if (rows.length && (!prompt.box || generation === "sam2")) rows.push([0, 0, -1]);
  return {
    coords: Float32Array.from(rows.flatMap(([x, y]) => [x * scaleX, y * scaleY])),
    labels: Float32Array.from(rows, ([, , label]) => label),
    count: rows.length,
  };
}

/** Magnitude given to a binary mask used as a prompt. */
const PROMPT_LOGIT = 10;

/**
 * A mask prompt as low-res logits [maskSize, maskSize]: its share of each cell, from -10 for none
 * (and for the padding) to +10 for all.
 */
export function maskInput(
  { runs, size }: Mask,
  resized: Size,
  imageSize: number,
  maskSize: number,
): Float32Array {
  const shares = new Float32Array(maskSize * maskSize);
  const perCell = imageSize / maskSize;
  // Cells that a pixel of the mask is wide and high.
  const sx = resized.width / size.width / perCell;
  const sy = resized.height / size.height / perCell;
  eachSegment(runs, size.height, (x, top, bottom) => {
    eachCell(x * sx, (x + 1) * sx, maskSize, (column, width) => {
      eachCell(top * sy, bottom * sy, maskSize, (row, height) => {
        shares[row * maskSize + column]! += width * height;
      });
    });
  });
  return shares.map((share) => (2 * Math.min(share, 1) - 1) * PROMPT_LOGIT);
}

/** Visit the cells that a stretch lies in, with how much of it does. */
function eachCell(
  from: number,
  to: number,
  cells: number,
  visit: (cell: number, length: number) => void,
): void {
  for (let cell = Math.floor(from); cell < to && cell < cells; cell++) {
    const length = Math.min(to, cell + 1) - Math.max(from, cell);
    if (length > 0) visit(cell, length);
  }
}
