// What gestures on the canvas mean for the objects of a video.

import { announce } from "./dom";
import type { Film } from "./film";
import type { Gestures, Tool } from "./input";
import type { Objects } from "./objects";
import type { Saying } from "./saying";
import type { Box, Point } from "./types";
import type { View } from "./view";

export interface VideoActingEvents {
  enabled(): boolean;
  tool(): Tool;
  update(): void;
}

export class VideoActing implements Gestures {
  constructor(
    private readonly view: View,
    private readonly film: Film,
    private readonly saying: Saying,
    private readonly objects: Objects,
    private readonly events: VideoActingEvents,
  ) {}

  enabled(): boolean {
    return this.events.enabled();
  }

  tool(): Tool {
    const tool = this.events.tool();
    return tool === "brush" || tool === "erase" ? "add" : tool;
  }

  brushRadius(): number {
    return 0;
  }

  stroke(): void {
    // The brush is not on offer here.
  }

  /** A click adds to the object, unless it meets another one's mask: then it selects that. */
  point(at: Point, label: 0 | 1, insists: boolean): void {
    const { film } = this;
    const over = this.view.objectAt(at);
    const other = over === film.active ? null : over;
    if (label && !insists && other !== null) {
      film.active = other;
      this.events.update();
      announce(`${film.objects.get(other)!.name} selected.`);
      return;
    }
    if (!label && film.active === null) {
      if (other === null) {
        announce("Nothing to take away from: select an object first.");
        return;
      }
      film.active = other;
    }
    this.saying.say((prompt) => ({ ...prompt, points: [...prompt.points, { ...at, label }] }));
    announce(label ? "Point added." : "Removing point added.");
  }

  box(box: Box): void {
    this.saying.say((prompt) => ({ ...prompt, box }));
    announce("Box drawn.");
  }

  movePoint(index: number, to: Point): void {
    this.saying.say((prompt) => ({
      ...prompt,
      points: prompt.points.map((point, i) => (i === index ? { ...point, ...to } : point)),
    }));
  }

  pickPoint(index: number): void {
    const { view } = this;
    view.picked = view.picked === index ? null : index;
    this.events.update();
  }

  removePoint(index: number): void {
    this.view.picked = null;
    this.saying.say((prompt) => ({ ...prompt, points: prompt.points.filter((_, i) => i !== index) }));
    announce("Point deleted.");
  }

  hover(at: Point | null): void {
    const over = at && this.view.objectAt(at);
    const other = over !== null && over !== this.film.active;
    this.view.canvas.classList.toggle("selects", other && this.tool() === "add");
    this.view.highlight(over);
    this.objects.highlight(over);
  }

  /** Delete the point that is picked, or else the object. */
  removeThis(): void {
    const { picked } = this.view;
    if (picked !== null && this.enabled()) this.removePoint(picked);
    else if (this.film.active !== null) this.saying.remove(this.film.active);
  }

  /** Let a click start a new object. */
  startNew(): void {
    this.view.picked = null;
    this.film.active = null;
    this.events.update();
  }
}
