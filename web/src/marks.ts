// What is drawn over the picture, in pixels of the screen: points, boxes, strokes, the cross-hair.

import type { Point } from "./types";

export function drawBox(
  c: CanvasRenderingContext2D,
  from: Point,
  to: Point,
  hue: string,
  dashed: boolean,
): void {
  const rect = [from.x, from.y, to.x - from.x, to.y - from.y] as const;
  c.lineWidth = 4;
  c.strokeStyle = "rgb(0 0 0 / 0.45)";
  c.strokeRect(...rect);
  c.lineWidth = 2;
  c.setLineDash(dashed ? [6, 4] : []);
  c.strokeStyle = hue;
  c.strokeRect(...rect);
  c.setLineDash([]);
}

/** A filled disc with a plus or a minus, so that colour is not all that tells them apart. */
export function drawPoint(
  c: CanvasRenderingContext2D,
  { x, y }: Point,
  label: 0 | 1,
  picked: boolean,
): void {
  if (picked) {
    c.beginPath();
    c.arc(x, y, 13, 0, 2 * Math.PI);
    c.fillStyle = "rgb(255 255 255 / 0.85)";
    c.fill();
  }
  c.beginPath();
  c.arc(x, y, 8, 0, 2 * Math.PI);
  c.fillStyle = label ? "#0f9d58" : "#d93025";
  c.fill();
  c.lineWidth = 2;
  c.strokeStyle = "#fff";
  c.stroke();
  c.beginPath();
  c.moveTo(x - 4, y);
  c.lineTo(x + 4, y);
  if (label) {
    c.moveTo(x, y - 4);
    c.lineTo(x, y + 4);
  }
  c.stroke();
}

export function drawStroke(
  c: CanvasRenderingContext2D,
  points: readonly Point[],
  radius: number,
  hue: string,
): void {
  c.beginPath();
  points.forEach(({ x, y }, i) => (i ? c.lineTo(x, y) : c.moveTo(x, y)));
  if (points.length === 1) c.lineTo(points[0]!.x, points[0]!.y);
  c.globalAlpha = 0.55;
  c.lineWidth = 2 * radius;
  c.lineCap = c.lineJoin = "round";
  c.strokeStyle = hue;
  c.stroke();
  c.globalAlpha = 1;
  c.lineCap = "butt";
}

/** The size of the brush, where the pointer is. */
export function drawBrush(c: CanvasRenderingContext2D, { x, y }: Point, radius: number): void {
  for (const [width, style] of [[3, "rgb(0 0 0 / 0.6)"], [1.5, "#fff"]] as const) {
    c.beginPath();
    c.arc(x, y, radius, 0, 2 * Math.PI);
    c.lineWidth = width;
    c.strokeStyle = style;
    c.stroke();
  }
}

export function drawCross(c: CanvasRenderingContext2D, { x, y }: Point): void {
  for (const [width, style] of [[4, "rgb(0 0 0 / 0.7)"], [2, "#fff"]] as const) {
    c.lineWidth = width;
    c.strokeStyle = style;
    c.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]] as const) {
      c.moveTo(x + 5 * dx, y + 5 * dy);
      c.lineTo(x + 16 * dx, y + 16 * dy);
    }
    c.stroke();
  }
}
