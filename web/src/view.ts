// The canvas: where the image lies on it, and drawing it with its masks and prompts.

import { color } from "./colors";
import type { Doc } from "./document";
import { maskOf } from "./document";
import { MaskLayer } from "./layer";
import type { Box, Candidate, LabelledPoint, Point, Size } from "./types";

const MARGIN = 24;
const MOST_ZOOM = 32;

export class View {
  private readonly context: CanvasRenderingContext2D;
  private readonly objects = new MaskLayer();
  private readonly hover = new MaskLayer();
  private picture: ImageBitmap | null = null;
  private scale = 1;
  private x = 0;
  private y = 0;
  private fitted = true;
  private frame = 0;
  private doc: Doc | null = null;

  size: Size = { height: 1, width: 1 };
  /** The box being drawn. */
  draft: Box | null = null;
  /** The keyboard's cross-hair. */
  cursor: Point | null = null;
  onzoom: (percent: number) => void = () => undefined;

  constructor(readonly canvas: HTMLCanvasElement) {
    this.context = canvas.getContext("2d")!;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  setImage(picture: ImageBitmap, size: Size): void {
    this.picture?.close();
    this.picture = picture;
    this.size = size;
    this.objects.resize(size);
    this.hover.resize(size);
    this.draft = null;
    this.cursor = null;
    this.fit();
  }

  setDoc(doc: Doc): void {
    this.doc = doc;
    const shown = doc.segments.filter((s) => !s.hidden && maskOf(s));
    this.objects.show(shown.map((s) => ({ runs: maskOf(s)!.runs, color: color(s.color) })));
    this.redraw();
  }

  setHover(candidate: Candidate | null, colorIndex = 0): void {
    this.hover.show(candidate ? [{ runs: candidate.runs, color: color(colorIndex) }] : []);
    this.redraw();
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
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
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
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!picture) return;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { width, height } = this.size;
    const place = [this.x, this.y, width * this.scale, height * this.scale] as const;
    // Above 2x single pixels should be seen, not blurred.
    c.imageSmoothingEnabled = this.scale < 2;
    c.imageSmoothingQuality = "high";
    c.drawImage(picture, ...place);
    c.drawImage(this.objects.canvas, ...place);
    c.drawImage(this.hover.canvas, ...place);
    const active = this.doc?.segments.find((s) => s.id === this.doc?.active);
    if (active && !active.hidden) {
      if (active.prompt.box) this.drawBox(active.prompt.box, color(active.color), false);
      for (const point of active.prompt.points) this.drawPoint(point);
    }
    if (this.draft) this.drawBox(this.draft, color(active?.color ?? 0), true);
    if (this.cursor) this.drawCursor(this.cursor);
  }

  private drawBox(box: Box, stroke: string, dashed: boolean): void {
    const { context: c } = this;
    const rect = [
      this.x + box.x1 * this.scale,
      this.y + box.y1 * this.scale,
      (box.x2 - box.x1) * this.scale,
      (box.y2 - box.y1) * this.scale,
    ] as const;
    c.lineWidth = 4;
    c.strokeStyle = "rgb(0 0 0 / 0.45)";
    c.strokeRect(...rect);
    c.lineWidth = 2;
    c.setLineDash(dashed ? [6, 4] : []);
    c.strokeStyle = stroke;
    c.strokeRect(...rect);
    c.setLineDash([]);
  }

  /** A filled disc with a plus or a minus, so that colour is not all that tells them apart. */
  private drawPoint(point: LabelledPoint): void {
    const { context: c } = this;
    const x = this.x + point.x * this.scale;
    const y = this.y + point.y * this.scale;
    c.beginPath();
    c.arc(x, y, 8, 0, 2 * Math.PI);
    c.fillStyle = point.label ? "#0f9d58" : "#d93025";
    c.fill();
    c.lineWidth = 2;
    c.strokeStyle = "#fff";
    c.stroke();
    c.beginPath();
    c.moveTo(x - 4, y);
    c.lineTo(x + 4, y);
    if (point.label) {
      c.moveTo(x, y - 4);
      c.lineTo(x, y + 4);
    }
    c.stroke();
  }

  private drawCursor(at: Point): void {
    const { context: c } = this;
    const x = this.x + at.x * this.scale;
    const y = this.y + at.y * this.scale;
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
}
