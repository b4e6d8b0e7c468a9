// Brush and eraser: strokes put into masks.

import { fromColumns, toColumns } from "./rle";
import type { Mask, Point, Size } from "./types";

/** What a brush went over, in image pixels. */
export interface Stroke {
  readonly points: readonly Point[];
  readonly radius: number;
  readonly erases: boolean;
}

/** A mask of the image's size with the stroke in it, or taken out; null where nothing is left. */
export function painted(mask: Mask | null, size: Size, stroke: Stroke): Mask | null {
  const pixels = mask ? toColumns(mask.runs, size) : new Uint8Array(size.width * size.height);
  const value = stroke.erases ? 0 : 1;
  stroke.points.forEach((to, i) => {
    const from = stroke.points[Math.max(i - 1, 0)]!;
    stamp(pixels, size, from, to, stroke.radius, value);
  });
  const runs = fromColumns(pixels);
  return runs.length > 1 ? { runs, size } : null;
}

/** Set all pixels whose centres are no farther than `radius` from the line. */
function stamp(
  pixels: Uint8Array,
  { width, height }: Size,
  a: Point,
  b: Point,
  radius: number,
  value: number,
): void {
  const left = Math.max(0, Math.floor(Math.min(a.x, b.x) - radius));
  const right = Math.min(width - 1, Math.ceil(Math.max(a.x, b.x) + radius));
  const top = Math.max(0, Math.floor(Math.min(a.y, b.y) - radius));
  const bottom = Math.min(height - 1, Math.ceil(Math.max(a.y, b.y) + radius));
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const length = dx * dx + dy * dy;
  for (let x = left; x <= right; x++) {
    for (let y = top; y <= bottom; y++) {
      const [px, py] = [x + 0.5 - a.x, y + 0.5 - a.y];
      const t = length ? Math.min(Math.max((px * dx + py * dy) / length, 0), 1) : 0;
      const off = (px - t * dx) ** 2 + (py - t * dy) ** 2;
      if (off <= radius * radius) pixels[x * height + y] = value;
    }
  }
}
