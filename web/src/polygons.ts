// Masks as polygons for files, by the rules of samtrt's formats/polygons.py: through the centres of
// a part's outermost pixels. Holes are lost, as neither labelme's nor YOLO's polygons can have any.

import { type Ring, ringArea, simplified, trace } from "./contours";
import type { Mask } from "./types";

/** Pixels that an outline may be from the mask's. */
const TOLERANCE = 1;
/** Smaller parts, in pixels, are left out; the largest never is. */
const LEAST = 16;

/** One polygon for each part of a mask, the largest first. */
export function polygonsOf(mask: Mask): Ring[] {
  const parts = trace(mask)
    .filter((ring) => ringArea(ring) > 0)
    .sort((a, b) => ringArea(b) - ringArea(a));
  return parts
    .filter((ring, i) => i === 0 || ringArea(ring) >= LEAST)
    .map((ring) => padded(simplified(throughCentres(ring), TOLERANCE)));
}

/** The centres of the pixels along a ring that goes around them, with the mask to its right. */
function throughCentres(ring: Ring): Ring {
  const out: number[] = [];
  for (let i = 0; i < ring.length; i += 2) {
    let [x, y] = [ring[i]!, ring[i + 1]!];
    const j = (i + 2) % ring.length;
    const dx = Math.sign(ring[j]! - x);
    const dy = Math.sign(ring[j + 1]! - y);
    // East has its pixel below, south to the left, west above, north to the right.
    const left = dx < 0 || dy > 0 ? 1 : 0;
    const above = dx < 0 || dy < 0 ? 1 : 0;
    for (; x !== ring[j] || y !== ring[j + 1]; x += dx, y += dy) {
      const [px, py] = [x - left, y - above];
      if (out.at(-2) !== px || out.at(-1) !== py) out.push(px, py);
    }
  }
  if (out.length > 2 && out[0] === out.at(-2) && out[1] === out.at(-1)) out.length -= 2;
  return out;
}

/** Readers want three corners at least: say the last one again. */
function padded(ring: Ring): Ring {
  const out = [...ring];
  while (out.length < 6) out.push(out.at(-2)!, out.at(-2)!);
  return out;
}

/** One polygon of several, with bridges of no width between their nearest corners. */
export function joined(polygons: readonly Ring[]): Ring {
  let whole = [...(polygons[0] ?? [])];
  for (const part of polygons.slice(1)) {
    let [at, from, least] = [0, 0, Infinity];
    for (let i = 0; i < whole.length; i += 2) {
      for (let j = 0; j < part.length; j += 2) {
        const square = (whole[i]! - part[j]!) ** 2 + (whole[i + 1]! - part[j + 1]!) ** 2;
        if (square < least) [at, from, least] = [i, j, square];
      }
    }
    const around = [...part.slice(from), ...part.slice(0, from + 2)];
    whole = [...whole.slice(0, at + 2), ...around, ...whole.slice(at)];
  }
  return whole;
}
