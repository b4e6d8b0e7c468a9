// The canvas: where the image lies on it, and what is drawn over it.

import { color } from "./colors";
import { pathOf } from "./contours";
import type { Doc, Segment } from "./document";
import { maskOf } from "./document";
import { drawBox, drawBrush, drawCross, drawPoint, drawStroke } from "./marks";
import type { Stroke } from "./painting";
import { copyFor, type Picture } from "./pictures";
import { area, covers } from "./rle";
import type { Box, Candidate, Mask, Point, Size } from "./types";

const MARGIN = 24;
const MOST_ZOOM = 32;
/** Screen pixels of one of the mask's from which on its edges are drawn as they are. */
const CLOSE = 3;
/** Screen pixels around a point that count as it. */
const REACH = 11;

export class View {
  private readonly context: CanvasRenderingContext2D;
  /** The picture with its masks: what a moving brush or box leaves as it is. */
  private readonly scene = document.createElement("canvas");
  private sceneIsOld = true;
  private picture: Picture | null = null;
  private scale = 1;
  private x = 0;
  private y = 0;
  private fitted = true;
  private frame = 0;
  private doc: Doc | null = null;
  /** Visible objects, large ones first, so that small ones lie on top. */
  private shown: readonly Segment[] = [];
  private preview: Candidate | null = null;
  private highlighted: number | null = null;

  size: Size = { height: 1, width: 1 };
  /** How much of the picture masks cover, 0..1. */
  opacity = 0.4;
  /** The box being drawn. */
  draft: Box | null = null;
  /** What the brush is at. */
  stroke: Stroke | null = null;
  /** Strokes that are on their way into a mask. */
  pending: readonly Stroke[] = [];
  /** Where the brush would paint, and with what radius on the screen. */
  brush: { readonly at: Point; readonly radius: number } | null = null;
  /** A point of the active object on its way to another place. */
  dragged: { readonly index: number; readonly at: Point } | null = null;
  /** The point that Delete removes. */
  picked: number | null = null;
  /** The keyboard's cross-hair. */
  cursor: Point | null = null;
  onzoom: (percent: number) => void = () => undefined;

  constructor(readonly canvas: HTMLCanvasElement) {
    this.context = canvas.getContext("2d")!;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  setImage(picture: Picture, size: Size): void {
    this.picture = picture;
    this.size = size;
    this.draft = this.stroke = this.dragged = this.picked = this.cursor = this.preview = null;
    this.pending = [];
    this.highlighted = null;
    this.fit();
  }

  /** Show another frame of a video in the place of this one. */
  setFrame(picture: Picture): void {
    this.picture = picture;
    this.redraw();
  }

  setDoc(doc: Doc): void {
    if (doc.active !== this.doc?.active) this.picked = null;
    this.doc = doc;
    const visible = doc.segments.filter((s) => !s.hidden && maskOf(s));
    // Shares of the image, as grids may differ.
    const shares = new Map(visible.map((s) => [s, share(maskOf(s)!)]));
    this.shown = visible.sort((a, b) => shares.get(b)! - shares.get(a)!);
    this.redraw();
  }

  setHover(candidate: Candidate | null): void {
    this.preview = candidate;
    this.redraw();
  }

  /** Make one object stand out. */
  highlight(id: number | null): void {
    if (id === this.highlighted) return;
    this.highlighted = id;
    this.redraw();
  }

  /** The uppermost object that covers a place, the active one before all others. */
  objectAt(at: Point): number | null {
    const covering = this.shown.filter((s) => covers(maskOf(s)!, this.size, at)).reverse();
    const found = covering.find((s) => s.id === this.doc?.active) ?? covering[0];
    return found?.id ?? null;
  }

  /** The number of the active object's point at a place of the viewport. */
  pointAt(at: Point): number | null {
    const points = this.active?.prompt.points ?? [];
    for (let i = points.length - 1; i >= 0; i--) {
      const { x, y } = this.toScreen(points[i]!);
      if (Math.hypot(x - at.x, y - at.y) <= REACH) return i;
    }
    return null;
  }

  fit(): void {
    const { width, height } = this.viewport();
    this.scale = Math.min(
      (width - 2 * MARGIN) / this.size.width,
      (height - 2 * MARGIN) / this.size.height,
    );
    this.x = (width - this.size.width * this.scale) / 2;
    this.y = (height - this.size.height * this.scale) / 2;
    this.fitted = true;
    this.moved();
  }

  /** Zoom by a factor, keeping a point of the viewport (its centre where left out) in place. */
  zoom(factor: number, at?: Point): void {
    const { width, height } = this.viewport();
    const { x, y } = at ?? { x: width / 2, y: height / 2 };
    const least = Math.min(1, width / this.size.width / 2, height / this.size.height / 2);
    const scale = Math.min(Math.max(this.scale * factor, least), MOST_ZOOM);
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.moved();
  }

  pan(dx: number, dy: number): void {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.moved();
  }

  /** From the viewport's pixels to the image's. */
  toImage(at: Point): Point {
    return { x: (at.x - this.x) / this.scale, y: (at.y - this.y) / this.scale };
  }

  toScreen(at: Point): Point {
    return { x: this.x + at.x * this.scale, y: this.y + at.y * this.scale };
  }

  /** Image pixels that a length on the screen covers. */
  inImage(pixels: number): number {
    return pixels / this.scale;
  }

  contains({ x, y }: Point): boolean {
    return x >= 0 && y >= 0 && x < this.size.width && y < this.size.height;
  }

  clamp({ x, y }: Point): Point {
    return {
      x: Math.min(Math.max(x, 0), this.size.width - 1e-3),
      y: Math.min(Math.max(y, 0), this.size.height - 1e-3),
    };
  }

  redraw(): void {
    this.sceneIsOld = true;
    this.redrawMarks();
  }

  /** Draw again what lies over the masks: points, boxes, strokes, the cross-hair. */
  redrawMarks(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  private get active(): Segment | undefined {
    return this.doc?.segments.find((s) => s.id === this.doc?.active);
  }

  private viewport(): Size {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  private resize(): void {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    if (this.fitted) this.fit();
    else this.redraw();
  }

  private moved(): void {
    this.onzoom(Math.round(100 * this.scale));
    this.redraw();
  }

  private draw(): void {
    const { context: c, picture } = this;
    const ratio = window.devicePixelRatio || 1;
    if (this.sceneIsOld && picture) this.drawScene(picture, ratio);
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!picture) return;
    c.drawImage(this.scene, 0, 0);
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawMarks();
  }

  private drawScene(picture: Picture, ratio: number): void {
    this.sceneIsOld = false;
    this.scene.width = this.canvas.width; // clears it
    this.scene.height = this.canvas.height;
    const c = this.scene.getContext("2d")!;
    const zoom = ratio * this.scale;
    c.setTransform(zoom, 0, 0, zoom, ratio * this.x, ratio * this.y);
    // Above 2x single pixels should be seen, not blurred.
    c.imageSmoothingEnabled = this.scale < 2;
    c.imageSmoothingQuality = "high";
    const copy = copyFor(picture, this.size.width * zoom);
    c.drawImage(copy, 0, 0, this.size.width, this.size.height);
    for (const segment of this.shown) {
      const stands = segment.id === this.highlighted || segment.id === this.doc?.active;
      this.drawMask(c, maskOf(segment)!, color(segment.color), stands);
    }
    if (this.preview) this.drawMask(c, this.preview, "#ffffff", false);
  }

  private drawMask(c: CanvasRenderingContext2D, mask: Mask, hue: string, stands: boolean): void {
    const close = (this.scale * this.size.width) / mask.size.width >= CLOSE;
    const path = pathOf(mask, this.size, close);
    c.fillStyle = hue;
    c.globalAlpha = Math.min(1, this.opacity + (stands && this.opacity ? 0.12 : 0));
    c.fill(path, "evenodd");
    c.globalAlpha = 1;
    c.lineJoin = "round";
    // As wide on the screen at every zoom: dark around bright, to be seen on any picture.
    for (const [wide, style] of [[stands ? 4.5 : 3, "rgb(0 0 0 / 0.5)"], [stands ? 2.5 : 1.5, hue]] as const) {
      c.lineWidth = wide / this.scale;
      c.strokeStyle = style;
      c.stroke(path);
    }
  }

  private drawMarks(): void {
    const { context: c, active } = this;
    const hue = color(active?.color ?? 0);
    if (active && !active.hidden) {
      const { box, points } = active.prompt;
      if (box) drawBox(c, this.toScreen({ x: box.x1, y: box.y1 }), this.toScreen({ x: box.x2, y: box.y2 }), hue, false);
      points.forEach((point, i) => {
        const at = this.dragged?.index === i ? this.dragged.at : point;
        drawPoint(c, this.toScreen(at), point.label, this.picked === i);
      });
    }
    const { draft, stroke, cursor } = this;
    if (draft) {
      drawBox(c, this.toScreen({ x: draft.x1, y: draft.y1 }), this.toScreen({ x: draft.x2, y: draft.y2 }), hue, true);
    }
    for (const { points, radius, erases } of stroke ? [...this.pending, stroke] : this.pending) {
      const onScreen = points.map((p) => this.toScreen(p));
      drawStroke(c, onScreen, radius * this.scale, erases ? "#000000" : hue);
    }
    if (this.brush) drawBrush(c, this.brush.at, this.brush.radius);
    if (cursor) drawCross(c, this.toScreen(cursor));
  }
}

function share({ runs, size }: Mask): number {
  return area(runs) / (size.width * size.height);
}
