// The bar below a video: where in it we are, what was found where, and what plays and tracks.

import { color } from "./colors";
import { make } from "./dom";
import type { Film } from "./film";

export interface TimelineEvents {
  go(frame: number): void;
  step(by: number): void;
  play(): void;
  track(direction: "forward" | "backward"): void;
  stop(): void;
}

const MOST_ROWS = 6;

export class Timeline {
  readonly element: HTMLElement;
  private readonly strip = make("canvas", { className: "strip", ariaHidden: "true" });
  private readonly slider = make("input", { id: "frame", type: "range", min: "0", step: "1", ariaLabel: "Frame" });
  private readonly place = make("span", { id: "frame-place", className: "value" });
  private readonly buttons: Record<"before" | "play" | "after" | "backward" | "forward" | "stop", HTMLButtonElement>;
  private drawn = 0;

  constructor(
    private readonly film: Film,
    private readonly times: readonly number[],
    events: TimelineEvents,
  ) {
    const button = (id: string, text: string, title: string, run: () => void): HTMLButtonElement => {
      const made = make("button", { id, textContent: text, title, className: "button", onclick: run });
      if (text.length < 2) made.ariaLabel = title.replace(/ \(.*/, "");
      return made;
    };
    this.buttons = {
      before: button("frame-before", "‹", "Previous frame (,)", () => events.step(-1)),
      play: button("play", "Play", "Play (K)", () => events.play()),
      after: button("frame-after", "›", "Next frame (.)", () => events.step(1)),
      backward: button("track-backward", "◂ Track", "Track backward from this frame (Shift+T)", () => events.track("backward")),
      forward: button("track-forward", "Track ▸", "Track forward from this frame (T)", () => events.track("forward")),
      stop: button("track-stop", "Stop", "Stop tracking (T)", () => events.stop()),
    };
    this.buttons.forward.classList.add("primary");
    this.slider.max = String(times.length - 1);
    this.slider.oninput = () => events.go(this.slider.valueAsNumber);
    const { before, play, after, backward, forward, stop } = this.buttons;
    this.element = make(
      "div",
      { id: "timeline", className: "timeline", role: "group", ariaLabel: "Timeline" },
      make("div", { className: "track" }, this.strip, this.slider),
      make("div", { className: "row" }, before, play, after, this.place, make("span", { className: "space" }), backward, stop, forward),
    );
    new ResizeObserver(() => this.draw()).observe(this.strip);
  }

  /** Show where we are, and what may be done. */
  update(tracking: boolean, playing: boolean): void {
    const { frame, objects } = this.film;
    this.slider.valueAsNumber = frame;
    const seconds = this.times[frame]!;
    const time = make("span", { className: "time", textContent: ` · ${clock(seconds)}` });
    this.place.replaceChildren(`${frame + 1} / ${this.times.length}`, time);
    this.slider.setAttribute("aria-valuetext", `Frame ${frame + 1} of ${this.times.length}, ${seconds.toFixed(2)} s`);
    this.buttons.play.textContent = playing ? "Pause" : "Play";
    this.buttons.stop.hidden = !tracking;
    for (const one of [this.buttons.backward, this.buttons.forward]) {
      one.hidden = tracking;
      one.disabled = !objects.size;
    }
    for (const one of [this.buttons.before, this.buttons.play, this.buttons.after, this.slider]) one.disabled = tracking;
    this.drawn ||= requestAnimationFrame(() => {
      this.drawn = 0;
      this.draw();
    });
  }

  /** A row an object: bright where it was found, a dot where something was said of it. */
  private draw(): void {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.strip;
    this.strip.width = width * ratio;
    this.strip.height = height * ratio;
    const c = this.strip.getContext("2d")!;
    c.scale(ratio, ratio);
    const objects = [...this.film.objects.values()].slice(0, MOST_ROWS);
    const step = width / this.times.length;
    const row = height / Math.max(objects.length, 2);
    objects.forEach(({ id, color: hue }, i) => {
      c.fillStyle = color(hue);
      const [top, middle] = [i * row + 1, (i + 0.5) * row];
      c.globalAlpha = 0.55;
      for (const [frame, masks] of this.film.masks) {
        const mask = masks.get(id);
        if (mask && mask.runs.length > 1) c.fillRect(frame * step, top, Math.max(step, 1), row - 2);
      }
      c.globalAlpha = 1;
      for (const frame of this.film.saidOf(id)) {
        c.beginPath();
        c.arc((frame + 0.5) * step, middle, Math.min(4, row / 2), 0, 7);
        c.fill();
        c.strokeStyle = "#fff";
        c.stroke();
      }
    });
  }
}

function clock(seconds: number): string {
  return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;
}
