// Specks and holes: parts of a mask that are small on the scale of its low-res logits. The rules are
// those of samtrt's masks/specks.py.

import type { Size } from "./types";

/** Logit that what was changed has at least. */
const LEAST = 0.1;

/**
 * Turn islands and holes of fewer than `least` cells of low-res logits [maskSize, maskSize] around,
 * in place. The largest island always stays. `shown` is what of them is the image; the rest is padding.
 */
export function removeSpecks(
  logits: Float32Array,
  maskSize: number,
  shown: Size,
  threshold: number,
  least: number,
): void {
  // With a frame of background, which is the outside.
  const width = shown.width + 2;
  const mask = new Uint8Array(width * (shown.height + 2));
  const eachCell = (visit: (cell: number, at: number) => void): void => {
    for (let y = 0; y < shown.height; y++) {
      for (let x = 0; x < shown.width; x++) visit(y * maskSize + x, (y + 1) * width + x + 1);
    }
  };
  eachCell((cell, at) => {
    mask[at] = logits[cell]! > threshold ? 1 : 0;
  });
  const islands = largeRegions(mask, width, least, true);
  const background = largeRegions(islands.map((cell) => 1 - cell), width, least, false);
  eachCell((cell, at) => {
    if (background[at] !== mask[at]) return; // background where it was, or mask
    const mirrored = 2 * threshold - logits[cell]!;
    logits[cell] = mask[at]
      ? Math.min(mirrored, threshold - LEAST)
      : Math.max(mirrored, threshold + LEAST);
  });
}

/** Regions (of eight neighbours) of at least `least` cells, with the largest or the one at the corner. */
function largeRegions(
  mask: Uint8Array,
  width: number,
  least: number,
  theLargest: boolean,
): Uint8Array {
  const seen = new Uint8Array(mask.length);
  const kept = new Uint8Array(mask.length);
  let largest: readonly number[] = [];
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || seen[start]) continue;
    const region = [start];
    seen[start] = 1;
    for (let i = 0; i < region.length; i++) {
      const x = region[i]! % width;
      for (let dx = x ? -1 : 0; dx <= (x < width - 1 ? 1 : 0); dx++) {
        for (let dy = -width; dy <= width; dy += width) {
          const next = region[i]! + dx + dy;
          if (!mask[next] || seen[next]) continue;
          seen[next] = 1;
          region.push(next);
        }
      }
    }
    if (region.length > largest.length) largest = region;
    if (region.length >= least || start === 0) for (const at of region) kept[at] = 1;
  }
  if (theLargest) for (const at of largest) kept[at] = 1;
  return kept;
}
