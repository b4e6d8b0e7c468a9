// The automatic search's filters, as samtrt's automatic/ has them, on masks that were all kept.

import type { Box, Found, Thresholds } from "./types";

/** Box IoU above which the worse of two masks is a duplicate: the official `box_nms_thresh`. */
const DUPLICATE = 0.7;

/** Numbers of the masks that reach both thresholds and repeat no better one, best first. */
export function passing(found: readonly Found[], { iou, stability }: Thresholds): number[] {
  const good = found
    .map((_, i) => i)
    .filter((i) => found[i]!.score > iou && found[i]!.stability >= stability)
    .sort((a, b) => found[b]!.score - found[a]!.score);
  const kept: number[] = [];
  for (const i of good) {
    const { box } = found[i]!;
    if (!kept.some((other) => boxIou(box, found[other]!.box) > DUPLICATE)) kept.push(i);
  }
  return kept;
}

/** What to tell where nothing passes: which filter holds the masks back, and how far. */
export function whyNone(found: readonly Found[], { iou, stability }: Thresholds): string {
  if (!found.length) return "The model gave no mask at any point of the grid. Try a finer grid.";
  const best = (of: (mask: Found) => number): string => Math.max(...found.map(of)).toFixed(2);
  const reach = (of: (mask: Found) => number, least: number): boolean => found.some((f) => of(f) > least);
  const what = !reach((f) => f.score, iou)
    ? `the best predicted IoU is ${best((f) => f.score)}`
    : !reach((f) => f.stability, stability)
      ? `the best stability is ${best((f) => f.stability)}`
      : "none reaches both limits at once";
  return `None of ${found.length} masks is good enough: ${what}. Lower the sliders.`;
}

/** The official generator's boxes end at the last pixel, and so are these compared. */
function boxIou(a: Box, b: Box): number {
  const width = Math.min(a.x2, b.x2) - Math.max(a.x1, b.x1);
  const height = Math.min(a.y2, b.y2) - Math.max(a.y1, b.y1);
  if (width <= 0 || height <= 0) return 0;
  const area = (box: Box): number => (box.x2 - box.x1) * (box.y2 - box.y1);
  return (width * height) / (area(a) + area(b) - width * height);
}
