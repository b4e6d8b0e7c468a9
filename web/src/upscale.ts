// Low-res logits to a mask of the image's size, as samtrt's masks/upscaling.py: bilinear to S x S, cut off
// the padding, bilinear to the original size, threshold.

import type { Runs, Size } from "./types";

interface Taps {
  readonly low: Int32Array;
  readonly high: Int32Array;
  /** Weight of `high`. */
  readonly weight: Float32Array;
}

/** Bilinear sampling positions, align_corners=False, clamped at the borders. */
function taps(from: number, to: number): Taps {
  const low = new Int32Array(to);
  const high = new Int32Array(to);
  const weight = new Float32Array(to);
  for (let i = 0; i < to; i++) {
    const at = Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1);
    low[i] = Math.floor(at);
    high[i] = Math.min(low[i]! + 1, from - 1);
    weight[i] = at - low[i]!;
  }
  return { low, high, weight };
}

/**
 * Produce lines of a resized plane one by one. A line is what the second index runs along; the
 * caller gives planes transposed, so here a line is a column of the image.
 */
function* resizedLines(
  plane: Float32Array,
  stride: number,
  lines: number,
  length: number,
  toLines: number,
  toLength: number,
): Generator<Float32Array> {
  const across = taps(lines, toLines);
  const along = taps(length, toLength);
  const mixed = new Float32Array(length);
  const out = new Float32Array(toLength);
  for (let i = 0; i < toLines; i++) {
    const a = across.low[i]! * stride;
    const b = across.high[i]! * stride;
    const w = across.weight[i]!;
    for (let j = 0; j < length; j++) {
      const value = plane[a + j]!;
      mixed[j] = value + (plane[b + j]! - value) * w;
    }
    for (let j = 0; j < toLength; j++) {
      const value = mixed[along.low[j]!]!;
      out[j] = value + (mixed[along.high[j]!]! - value) * along.weight[j]!;
    }
    yield out;
  }
}

/**
 * Threshold logits [maskSize, maskSize] at the image's size, straight to COCO run lengths.
 * Working column by column, the full-size mask never exists.
 */
export function runsFromLogits(
  logits: Float32Array,
  maskSize: number,
  imageSize: number,
  resized: Size,
  original: Size,
  threshold: number,
): Runs {
  const turned = new Float32Array(maskSize * maskSize);
  for (let y = 0; y < maskSize; y++) {
    for (let x = 0; x < maskSize; x++) turned[x * maskSize + y] = logits[y * maskSize + x]!;
  }
  const padded = new Float32Array(resized.width * imageSize);
  let column = 0;
  for (const line of resizedLines(turned, maskSize, maskSize, maskSize, imageSize, imageSize)) {
    if (column === resized.width) break;
    padded.set(line, column++ * imageSize);
  }

  const runs: number[] = [];
  let inside = false;
  let run = 0;
  for (const line of resizedLines(
    padded,
    imageSize,
    resized.width,
    resized.height,
    original.width,
    original.height,
  )) {
    for (let y = 0; y < line.length; y++) {
      if (line[y]! > threshold !== inside) {
        runs.push(run);
        run = 0;
        inside = !inside;
      }
      run++;
    }
  }
  runs.push(run);
  return Uint32Array.from(runs);
}
