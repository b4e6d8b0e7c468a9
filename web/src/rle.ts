// COCO run-length encoding: the compressed text of pycocotools, and what can be read off runs.

import type { Box, Mask, Point, Runs, Size } from "./types";

/** pycocotools `rleToString`: differences to the run before the last, five bits a character. */
export function compress(runs: Runs): string {
  let text = "";
  for (let i = 0; i < runs.length; i++) {
    let value = runs[i]! - (i > 2 ? runs[i - 2]! : 0);
    for (let more = true; more; ) {
      let bits = value & 31;
      value >>= 5;
      more = bits & 16 ? value !== -1 : value !== 0;
      if (more) bits |= 32;
      text += String.fromCharCode(bits + 48);
    }
  }
  return text;
}

/** pycocotools `rleFrString`. */
export function decompress(text: string): Runs {
  const runs: number[] = [];
  let value = 0;
  let shift = 0;
  for (let i = 0; i < text.length; i++) {
    const bits = text.charCodeAt(i) - 48;
    value |= (bits & 31) << shift;
    shift += 5;
    if (bits & 32) continue;
    if (bits & 16 && shift < 32) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2]!;
    runs.push(value);
    value = shift = 0;
  }
  return Uint32Array.from(runs);
}

export function area(runs: Runs): number {
  let sum = 0;
  for (let i = 1; i < runs.length; i += 2) sum += runs[i]!;
  return sum;
}

/** The mask's bounding box, x2 and y2 past its last pixel; null for an empty mask. */
export function bounds(runs: Runs, size: Size): Box | null {
  let [x1, y1, x2, y2] = [Infinity, Infinity, 0, 0];
  eachSegment(runs, size.height, (x, top, bottom) => {
    x1 = Math.min(x1, x);
    x2 = x + 1;
    y1 = Math.min(y1, top);
    y2 = Math.max(y2, bottom);
  });
  return x2 ? { x1, y1, x2, y2 } : null;
}

/** Call back for every vertical segment of the mask: column x, rows top to bottom - 1. */
export function eachSegment(
  runs: Runs,
  height: number,
  visit: (x: number, top: number, bottom: number) => void,
): void {
  let at = 0;
  for (let i = 0; i < runs.length; i++) {
    const end = at + runs[i]!;
    if (i & 1) {
      while (at < end) {
        const x = Math.floor(at / height);
        const stop = Math.min(end, (x + 1) * height);
        visit(x, at - x * height, stop - x * height);
        at = stop;
      }
    }
    at = end;
  }
}

/** Whether a mask covers a point of an image of the given size. */
export function covers({ runs, size }: Mask, image: Size, { x, y }: Point): boolean {
  if (x < 0 || y < 0 || x >= image.width || y >= image.height) return false;
  const column = Math.floor((x * size.width) / image.width);
  const target = column * size.height + Math.floor((y * size.height) / image.height);
  let at = 0;
  for (let i = 0; i < runs.length; i++) {
    at += runs[i]!;
    if (at > target) return (i & 1) === 1;
  }
  return false;
}

/** One byte a pixel, 0 or 1, column by column. */
export function toColumns(runs: Runs, size: Size): Uint8Array {
  const pixels = new Uint8Array(size.width * size.height);
  let at = 0;
  for (let i = 0; i < runs.length; i++) {
    const end = at + runs[i]!;
    if (i & 1) pixels.fill(1, at, end);
    at = end;
  }
  return pixels;
}

/** The inverse of `toColumns`. */
export function fromColumns(pixels: Uint8Array): Runs {
  const runs: number[] = [];
  let value = 0;
  for (let at = 0; at < pixels.length; ) {
    let end = pixels.indexOf(1 - value, at);
    if (end < 0) end = pixels.length;
    runs.push(end - at);
    at = end;
    value = 1 - value;
  }
  return Uint32Array.from(runs);
}
