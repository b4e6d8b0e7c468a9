// What gestures on the canvas mean for the objects.

import type { History } from "./document";
import { announce, byId } from "./dom";
import type { Gestures, Tool } from "./input";
import { painted, type Stroke } from "./painting";
import type { Session } from "./session";
import type { Box, Point } from "./types";
import type { View } from "./view";

export interface ActingEvents {
  hovered(id: number | null): void;
  failed(what: string, error: unknown): void;
  passed(what: string): void;
  update(): void;
}

export class Acting implements Gestures {
  private current: Tool = "add";
  private strokes: Promise<void> = Promise.resolve();
  private readonly size = byId<HTMLInputElement>("brush-size");

  constructor(
    private readonly view: View,
    private readonly history: History,
    private readonly session: Session,
    private readonly events: ActingEvents,
  ) {
    this.size.oninput = () => this.showBrush();
    this.showBrush();
  }

  enabled(): boolean {
    return this.session.image !== null;
  }

  tool(): Tool {
    return this.current;
  }

  choose(tool: Tool): void {
    this.current = tool;
    document.body.dataset.tool = tool;
    byId("brush").hidden = tool !== "brush" && tool !== "erase";
    this.hover(null);
    this.view.brush = null;
    this.view.redrawMarks();
  }

  brushRadius(): number {
    return this.size.valueAsNumber;
  }

  resizeBrush(factor: number): void {
    this.size.valueAsNumber = Math.round(this.brushRadius() * factor);
    this.showBrush();
  }

  /** A click adds to the object, unless it meets another one's mask: then it selects that. */
  point(at: Point, label: 0 | 1, insists: boolean): void {
    const other = this.otherAt(at);
    if (label && !insists && other !== null) {
      this.history.select(other);
      announce(`${this.history.active!.name} selected.`);
      return;
    }
    if (!label && !this.history.active) {
      if (other === null) {
        announce("Nothing to take away from: select an object first.");
        return;
      }
      this.history.select(other);
    }
    const { prompt } = this.history;
    this.history.setPrompt({ ...prompt, points: [...prompt.points, { ...at, label }] });
    announce(label ? "Point added." : "Removing point added.");
  }

  box(box: Box): void {
    this.history.setPrompt({ ...this.history.prompt, box });
    announce("Box drawn.");
  }

  stroke(stroke: Stroke): void {
    const { active } = this.history;
    if (!active && stroke.erases) return;
    const id = active?.id ?? null;
    this.view.pending = [...this.view.pending, stroke];
    // One after the other: each is put into what the one before has left.
    this.strokes = this.strokes.then(() => this.paint(stroke, id));
  }

  movePoint(index: number, to: Point): void {
    const { prompt } = this.history;
    const points = prompt.points.map((point, i) => (i === index ? { ...point, ...to } : point));
    this.history.setPrompt({ ...prompt, points });
    announce("Point moved.");
  }

  pickPoint(index: number): void {
    this.view.picked = this.view.picked === index ? null : index;
    this.view.redrawMarks();
    this.events.update();
  }

  removePoint(index: number): void {
    const { prompt } = this.history;
    this.view.picked = null;
    this.history.setPrompt({ ...prompt, points: prompt.points.filter((_, i) => i !== index) });
    announce("Point deleted.");
  }

  /** Delete the point that is picked, or else the object. */
  remove(): void {
    const { active } = this.history;
    if (this.view.picked !== null) this.removePoint(this.view.picked);
    else if (active) this.history.remove(active.id);
  }

  /** Let a click start a new object. */
  startNew(): void {
    if (this.view.picked !== null) this.view.picked = null;
    this.history.select(null);
    this.view.redrawMarks();
    this.events.update();
  }

  hover(at: Point | null, insists = false): void {
    const points = this.current === "add" || this.current === "remove";
    const over = at && points && !insists ? this.view.objectAt(at) : null;
    const other = over !== null && over !== this.history.doc.active;
    this.view.canvas.classList.toggle("selects", other && this.current === "add");
    this.events.hovered(over);
    const previews = at && points && !other && byId<HTMLInputElement>("hover").checked;
    this.session.setHover(previews && !this.history.active ? at : null);
  }

  private otherAt(at: Point): number | null {
    const found = this.view.objectAt(at);
    return found === this.history.doc.active ? null : found;
  }

  private async paint(stroke: Stroke, id: number | null): Promise<void> {
    const { image } = this.session;
    const segment = this.history.find(id);
    try {
      if (!image || (id !== null && !segment)) return;
      // Painting on what is shown of a large image would keep its coarse steps.
      const before = segment && (await this.session.fullMask(segment));
      if (this.session.image !== image) return;
      const mask = painted(before, image.size, stroke);
      if (mask) this.history.setPainted(id, mask);
      else if (id !== null) this.history.remove(id);
      this.events.passed("paint");
      announce(stroke.erases ? "Erased." : "Painted.");
    } catch (error) {
      this.events.failed("paint", error);
    } finally {
      this.view.pending = this.view.pending.filter((other) => other !== stroke);
      this.view.redrawMarks();
    }
  }

  private showBrush(): void {
    byId("brush-size-value").textContent = String(this.brushRadius());
    if (this.view.brush) {
      this.view.brush = { ...this.view.brush, radius: this.brushRadius() };
      this.view.redrawMarks();
    }
  }
}
