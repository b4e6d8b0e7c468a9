// Mouse, pen, fingers and keys on the canvas, turned into what they mean.

import type { Stroke } from "./painting";
import type { Box, Point } from "./types";
import type { View } from "./view";

export type Tool = "add" | "remove" | "box" | "brush" | "erase" | "pan";

export interface Gestures {
  enabled(): boolean;
  tool(): Tool;
  /** Radius of the brush, in pixels of the screen. */
  brushRadius(): number;
  /** A click; `insists` where it should add a point whatever lies there. */
  point(at: Point, label: 0 | 1, insists: boolean): void;
  box(box: Box): void;
  stroke(stroke: Stroke): void;
  movePoint(index: number, to: Point): void;
  pickPoint(index: number): void;
  removePoint(index: number): void;
  hover(at: Point | null, insists: boolean): void;
}

/** Pixels on the screen that a pointer may move and still be a click. */
const SLOP = 5;

function boxBetween(a: Point, b: Point): Box {
  return {
    x1: Math.min(a.x, b.x),
    y1: Math.min(a.y, b.y),
    x2: Math.max(a.x, b.x),
    y2: Math.max(a.y, b.y),
  };
}

export class Pointers {
  private readonly down = new Map<number, Point>();
  private start: Point | null = null;
  private mode: "click" | "box" | "pan" | "pinch" | "point" | "stroke" | null = null;
  private point = 0;
  private space = false;

  constructor(
    private readonly view: View,
    private readonly gestures: Gestures,
  ) {
    const { canvas } = view;
    canvas.addEventListener("pointerdown", (e) => this.press(e));
    canvas.addEventListener("pointermove", (e) => this.move(e));
    canvas.addEventListener("pointerup", (e) => this.release(e));
    canvas.addEventListener("pointercancel", (e) => this.cancel(e.pointerId));
    canvas.addEventListener("pointerleave", () => {
      this.gestures.hover(null, false);
      this.showBrush(null);
    });
    canvas.addEventListener("contextmenu", (e) => e.preventDefault());
    canvas.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
    canvas.addEventListener("keydown", (e) => {
      if (e.key === " ") {
        this.space = true;
        e.preventDefault();
      }
    });
    window.addEventListener("keyup", (e) => {
      if (e.key === " ") this.space = false;
    });
    window.addEventListener("blur", () => (this.space = false));
  }

  private at(event: MouseEvent): Point {
    const box = this.view.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  private press(event: PointerEvent): void {
    if (!this.gestures.enabled()) return;
    this.view.canvas.focus({ preventScroll: true });
    this.view.canvas.setPointerCapture(event.pointerId);
    const at = this.at(event);
    this.down.set(event.pointerId, at);
    this.gestures.hover(null, false);
    if (this.view.cursor) {
      this.view.cursor = null;
      this.view.redrawMarks();
    }
    if (this.down.size === 2) {
      this.mode = "pinch";
      this.dropDraft();
    } else if (this.down.size === 1) {
      this.start = at;
      this.mode = this.modeOf(event, at);
      if (this.mode === "stroke") this.paint(at);
    }
  }

  private modeOf(event: PointerEvent, at: Point): "pan" | "point" | "stroke" | "click" {
    const tool = this.gestures.tool();
    if (event.button === 1 || this.space || tool === "pan") return "pan";
    if (tool === "brush" || tool === "erase") return "stroke";
    const point = this.view.pointAt(at);
    if (point === null || tool === "box") return "click";
    this.point = point;
    return "point";
  }

  private paint(at: Point): void {
    const { view } = this;
    view.stroke = {
      points: [...(view.stroke?.points ?? []), view.toImage(at)],
      radius: view.inImage(this.gestures.brushRadius()),
      erases: this.gestures.tool() === "erase",
    };
    view.redrawMarks();
  }

  private showBrush(at: Point | null): void {
    const tool = this.gestures.tool();
    const shows = at && this.gestures.enabled() && (tool === "brush" || tool === "erase");
    if (!shows && !this.view.brush) return;
    this.view.brush = shows ? { at, radius: this.gestures.brushRadius() } : null;
    this.view.redrawMarks();
  }

  private move(event: PointerEvent): void {
    const at = this.at(event);
    const before = this.down.get(event.pointerId);
    if (event.pointerType === "mouse") this.showBrush(at);
    if (!before) {
      const image = this.view.toImage(at);
      const wanted = event.pointerType === "mouse" && this.gestures.enabled();
      const onPoint = wanted && this.view.pointAt(at) !== null;
      this.view.canvas.classList.toggle("grabs", onPoint);
      const hovers = wanted && !onPoint && this.view.contains(image);
      this.gestures.hover(hovers ? image : null, event.shiftKey);
      return;
    }
    this.down.set(event.pointerId, at);
    if (this.mode === "pan") this.view.pan(at.x - before.x, at.y - before.y);
    else if (this.mode === "pinch") this.pinch(event.pointerId, before, at);
    else if (this.mode === "stroke") this.paint(at);
    else if (this.mode === "point" && this.start) this.dragPoint(at, this.start);
    else if (this.start) this.drag(event, at, this.start);
  }

  private drag(event: PointerEvent, at: Point, start: Point): void {
    if (this.mode === "click") {
      if (Math.hypot(at.x - start.x, at.y - start.y) <= SLOP) return;
      // A finger that slides with a point tool moves the image; a mouse draws a box.
      const draws = event.pointerType !== "touch" || this.gestures.tool() === "box";
      this.mode = draws && (event.buttons & 1 || event.pointerType === "touch") ? "box" : "pan";
    }
    if (this.mode === "box") {
      const from = this.view.clamp(this.view.toImage(start));
      this.view.draft = boxBetween(from, this.view.clamp(this.view.toImage(at)));
      this.view.redrawMarks();
    }
  }

  private dragPoint(at: Point, start: Point): void {
    const { view } = this;
    if (!view.dragged && Math.hypot(at.x - start.x, at.y - start.y) <= SLOP) return;
    view.dragged = { index: this.point, at: view.clamp(view.toImage(at)) };
    view.redrawMarks();
  }

  private pinch(id: number, before: Point, at: Point): void {
    const other = [...this.down].find(([key]) => key !== id)?.[1];
    if (!other) return;
    const was = Math.hypot(before.x - other.x, before.y - other.y);
    const is = Math.hypot(at.x - other.x, at.y - other.y);
    this.view.pan((at.x - before.x) / 2, (at.y - before.y) / 2);
    if (was > 0) {
      this.view.zoom(is / was, { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 });
    }
  }

  private release(event: PointerEvent): void {
    const { draft, stroke, dragged } = this.view;
    if (!this.down.has(event.pointerId)) return;
    if (this.mode === "box" && draft && draft.x2 - draft.x1 >= 1 && draft.y2 - draft.y1 >= 1) {
      this.gestures.box(draft);
    } else if (this.mode === "stroke" && stroke) {
      this.gestures.stroke(stroke);
    } else if (this.mode === "point") {
      if (dragged) this.gestures.movePoint(dragged.index, dragged.at);
      else if (event.button === 2 || event.altKey) this.gestures.removePoint(this.point);
      else this.gestures.pickPoint(this.point);
    } else if (this.mode === "click" && this.start) {
      const image = this.view.toImage(this.start);
      const removes = event.button === 2 || event.altKey || this.gestures.tool() === "remove";
      if (this.view.contains(image) && this.gestures.tool() !== "box") {
        this.gestures.point(image, removes ? 0 : 1, event.shiftKey);
      }
    }
    this.cancel(event.pointerId);
  }

  private cancel(id: number): void {
    this.down.delete(id);
    this.dropDraft();
    // Fingers that stay down after a pinch must not click when they leave.
    if (this.down.size === 0) this.mode = null;
    this.start = null;
  }

  private dropDraft(): void {
    this.view.draft = this.view.stroke = this.view.dragged = null;
    this.view.redrawMarks();
  }

  private wheel(event: WheelEvent): void {
    if (!this.gestures.enabled()) return;
    event.preventDefault();
    const step = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    this.view.zoom(Math.exp(-event.deltaY * step * 0.0016), this.at(event));
  }
}

/** The canvas by keyboard: a cross-hair that arrows move, Enter and B that use it. */
export class CursorKeys {
  private corner: Point | null = null;

  constructor(
    private readonly view: View,
    private readonly gestures: Gestures,
  ) {
    view.canvas.addEventListener("keydown", (event) => {
      if (this.gestures.enabled() && !event.ctrlKey && !event.metaKey && this.key(event)) {
        event.preventDefault();
      }
    });
    view.canvas.addEventListener("blur", () => {
      this.corner = this.view.draft = this.view.cursor = null;
      this.view.redrawMarks();
    });
  }

  private key(event: KeyboardEvent): boolean {
    const arrows: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const arrow = arrows[event.key];
    const { width, height } = this.view.size;
    const cursor = this.view.cursor ?? { x: width / 2, y: height / 2 };
    if (arrow) {
      const step = (Math.max(width, height) / 100) * (event.shiftKey ? 5 : 1);
      this.view.cursor = this.view.clamp({
        x: cursor.x + arrow[0] * step,
        y: cursor.y + arrow[1] * step,
      });
      if (this.corner) this.view.draft = boxBetween(this.corner, this.view.cursor);
      else this.gestures.hover(this.view.cursor, true);
    } else if (event.key === "Enter") {
      this.view.cursor = cursor;
      const removes = event.altKey || this.gestures.tool() === "remove";
      this.gestures.point(cursor, removes ? 0 : 1, event.shiftKey);
    } else if (event.key.toLowerCase() === "b") {
      this.view.cursor = cursor;
      if (this.corner) this.finishBox(this.corner, cursor);
      else this.corner = cursor;
    } else if (event.key === "Escape" && this.corner) {
      this.corner = this.view.draft = null;
      event.stopPropagation();
    } else {
      return false;
    }
    this.view.redrawMarks();
    return true;
  }

  private finishBox(a: Point, b: Point): void {
    this.corner = this.view.draft = null;
    const box = boxBetween(a, b);
    if (box.x2 - box.x1 >= 1 && box.y2 - box.y1 >= 1) this.gestures.box(box);
  }
}
