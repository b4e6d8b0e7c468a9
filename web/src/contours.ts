// Outlines of masks: along the edges of their pixels, and as paths for the canvas.

import { eachSegment } from "./rle";
import type { Mask, Size } from "./types";

/** Corners x, y, x, y, … of a closed line. Around a part it runs clockwise, around a hole the other way. */
export type Ring = readonly number[];

/** Rings along pixel edges. Parts that touch at a corner alone are apart. */
export function trace({ runs, size }: Mask): Ring[] {
  const row = size.width + 1;
  const next = new Map<number, number>();
  /** Second ways out of corners where two parts touch. */
  const other = new Map<number, number>();
  const edge = (x1: number, y1: number, x2: number, y2: number): void => {
    const from = y1 * row + x1;
    (next.has(from) ? other : next).set(from, y2 * row + x2);
  };

  // The mask lies to the right of every edge.
  const columns = new Map<number, number[]>();
  eachSegment(runs, size.height, (x, top, bottom) => {
    const column = columns.get(x);
    if (column) column.push(top, bottom);
    else columns.set(x, [top, bottom]);
    edge(x, top, x + 1, top);
    edge(x + 1, bottom, x, bottom);
  });
  for (const [x, column] of columns) {
    without(column, columns.get(x - 1) ?? [], (top, bottom) => edge(x, bottom, x, top));
    without(column, columns.get(x + 1) ?? [], (top, bottom) => edge(x + 1, top, x + 1, bottom));
  }

  const rings: Ring[] = [];
  // A corner with two ways out comes here twice, as each ring uses one of them up.
  for (let start = first(next); start !== undefined; start = first(next)) {
    const ring: number[] = [];
    let [at, from, began] = [start, -1, -1];
    do {
      const to = leave(at, from, row, next, other)!;
      const way = direction(at, to, row);
      if (from < 0) began = way;
      // A corner is where the direction changes.
      else if (direction(from, at, row) !== way) ring.push(at % row, Math.floor(at / row));
      [from, at] = [at, to];
    } while (at !== start);
    if (direction(from, at, row) !== began) ring.push(at % row, Math.floor(at / row));
    rings.push(ring);
  }
  return rings;
}

function first(edges: Map<number, number>): number | undefined {
  return edges.keys().next().value;
}

/** Take an edge out of a corner; where there are two, the one that turns right. */
function leave(
  at: number,
  from: number,
  row: number,
  next: Map<number, number>,
  other: Map<number, number>,
): number | undefined {
  const first = next.get(at);
  const second = other.get(at);
  if (second === undefined) {
    next.delete(at);
    return first;
  }
  if (first === undefined) return undefined;
  const right = from < 0 ? direction(at, first, row) : (direction(from, at, row) + 1) % 4;
  const takesFirst = direction(at, first, row) === right;
  other.delete(at);
  if (takesFirst) next.set(at, second);
  return takesFirst ? first : second;
}

/** 0 east, 1 south, 2 west, 3 north. */
function direction(from: number, to: number, row: number): number {
  if (Math.floor(from / row) === Math.floor(to / row)) return to > from ? 0 : 2;
  return to > from ? 1 : 3;
}

/** Visit what of sorted intervals a (top, bottom in turn) is in none of b. */
function without(
  a: readonly number[],
  b: readonly number[],
  visit: (top: number, bottom: number) => void,
): void {
  let j = 0;
  for (let i = 0; i < a.length; i += 2) {
    let [top, bottom] = [a[i]!, a[i + 1]!];
    while (j < b.length && b[j + 1]! <= top) j += 2;
    for (let k = j; k < b.length && b[k]! < bottom; k += 2) {
      if (b[k]! > top) visit(top, b[k]!);
      top = Math.max(top, b[k + 1]!);
    }
    if (top < bottom) visit(top, bottom);
  }
}

/** Leave out corners that are nearer than `tolerance` to what is left (Douglas and Peucker). */
export function simplified(ring: Ring, tolerance: number): Ring {
  const count = ring.length / 2;
  if (count <= 4) return ring;
  const kept = new Uint8Array(count);
  // A closed line has no ends: begin with its first corner and the one farthest from it.
  let [far, most] = [0, -1];
  for (let i = 1; i < count; i++) {
    const away = Math.hypot(ring[2 * i]! - ring[0]!, ring[2 * i + 1]! - ring[1]!);
    if (away > most) [far, most] = [i, away];
  }
  kept[0] = kept[far] = 1;
  const open: [number, number][] = [[0, far], [far, count]];
  for (let part = open.pop(); part; part = open.pop()) {
    const [from, to] = part;
    const [x1, y1] = [ring[2 * from]!, ring[2 * from + 1]!];
    const end = to % count;
    const [dx, dy] = [ring[2 * end]! - x1, ring[2 * end + 1]! - y1];
    const length = dx * dx + dy * dy;
    let [worst, off] = [-1, tolerance * tolerance];
    for (let i = from + 1; i < to; i++) {
      const [px, py] = [ring[2 * i]! - x1, ring[2 * i + 1]! - y1];
      const t = length ? Math.min(Math.max((px * dx + py * dy) / length, 0), 1) : 0;
      const square = (px - t * dx) ** 2 + (py - t * dy) ** 2;
      if (square > off) [worst, off] = [i, square];
    }
    if (worst >= 0) {
      kept[worst] = 1;
      open.push([from, worst], [worst, to]);
    }
  }
  const out: number[] = [];
  for (let i = 0; i < count; i++) if (kept[i]) out.push(ring[2 * i]!, ring[2 * i + 1]!);
  return out.length >= 6 ? out : ring;
}

/** Area within a ring; negative for a hole. */
export function ringArea(ring: Ring): number {
  let sum = 0;
  for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
    sum += ring[j]! * ring[i + 1]! - ring[i]! * ring[j + 1]!;
  }
  return sum / 2;
}

interface Outlines {
  rings?: Ring[];
  exact?: Path2D;
  smooth?: Path2D;
}
const cache = new WeakMap<object, Outlines>();

/**
 * The mask as a path in image pixels: every pixel's edge where `exact`, for looking closely, or
 * with steps of a pixel smoothed away. Kept for as long as the mask's runs are.
 */
export function pathOf(mask: Mask, image: Size, exact: boolean): Path2D {
  let outlines = cache.get(mask.runs);
  if (!outlines) cache.set(mask.runs, (outlines = {}));
  outlines.rings ??= trace(mask);
  const kind = exact ? "exact" : "smooth";
  const found = outlines[kind];
  if (found) return found;
  const path = new Path2D();
  const [sx, sy] = [image.width / mask.size.width, image.height / mask.size.height];
  for (const ring of outlines.rings) {
    const corners = exact ? ring : simplified(ring, 0.75);
    for (let i = 0; i < corners.length; i += 2) {
      const [x, y] = [corners[i]! * sx, corners[i + 1]! * sy];
      if (i) path.lineTo(x, y);
      else path.moveTo(x, y);
    }
    path.closePath();
  }
  return (outlines[kind] = path);
}
