// The side panel: candidates of the active object, and the list of objects.

import { color } from "./colors";
import type { History, Segment } from "./document";
import { maskOf } from "./document";
import { byId, icon, make } from "./dom";
import { MaskLayer } from "./layer";
import { area } from "./rle";
import type { Size } from "./types";
import { isEmpty } from "./types";

const THUMB = 160;

export class Panel {
  private picture: ImageBitmap | null = null;
  private size: Size = { width: 1, height: 1 };
  private shown: readonly unknown[] = [];

  constructor(private readonly history: History) {}

  setImage(picture: ImageBitmap, size: Size): void {
    this.picture = picture;
    this.size = size;
    this.shown = [];
    this.update();
  }

  update(): void {
    const focused = document.activeElement?.id;
    this.updateCandidates();
    this.updateObjects();
    if (focused && document.activeElement?.id !== focused) {
      document.getElementById(focused)?.focus({ preventScroll: true });
    }
  }

  private updateCandidates(): void {
    const box = byId("candidates");
    const { candidates, chosen, color: index, stale } = this.history.active;
    box.classList.toggle("four", candidates.length === 4);
    box.setAttribute("aria-busy", String(stale));
    if (candidates.length < 2) {
      const text = !this.picture
        ? "Open an image to begin."
        : candidates.length
          ? "Found automatically: one mask."
          : "Click an object, or drag a box around it.";
      this.shown = [];
      box.replaceChildren(make("p", { className: "hint", textContent: text }));
      return;
    }
    // Drawing thumbnails is the costly part: only when the masks themselves have changed.
    if (this.shown !== candidates) {
      this.shown = candidates;
      box.replaceChildren(
        ...candidates.map((candidate, i) => {
          const score = candidate.score.toFixed(2);
          const button = make(
            "button",
            { id: `candidate-${i}`, className: "candidate", type: "button" },
            this.thumbnail(candidate.runs, color(index)),
            make("span", {}, make("kbd", { textContent: String(i + 1) }), score),
          );
          button.setAttribute("role", "radio");
          button.ariaLabel = `Candidate ${i + 1}, predicted IoU ${score}`;
          button.onclick = () => this.history.choose(i);
          return button;
        }),
      );
    }
    [...box.children].forEach((button, i) => {
      button.setAttribute("aria-checked", String(i === chosen));
    });
  }

  private thumbnail(runs: Uint32Array, colorOf: string): HTMLCanvasElement {
    const canvas = make("canvas", { width: THUMB, height: (THUMB * 3) / 4 });
    const context = canvas.getContext("2d")!;
    const layer = new MaskLayer(THUMB);
    layer.resize(this.size);
    layer.show([{ runs, color: colorOf }]);
    const scale = Math.min(canvas.width / this.size.width, canvas.height / this.size.height);
    const [width, height] = [this.size.width * scale, this.size.height * scale];
    const place = [(canvas.width - width) / 2, (canvas.height - height) / 2, width, height] as const;
    if (this.picture) context.drawImage(this.picture, ...place);
    context.drawImage(layer.canvas, ...place);
    return canvas;
  }

  private updateObjects(): void {
    const { segments } = this.history.doc;
    byId("count").textContent = String(segments.filter(maskOf).length);
    byId("objects").replaceChildren(...segments.map((segment) => this.row(segment)));
  }

  private row(segment: Segment): HTMLLIElement {
    const { history } = this;
    const { id } = segment;
    const active = id === history.doc.active;
    const select = make("button", { id: `select-${id}`, className: "swatch" });
    select.style.background = color(segment.color);
    select.ariaLabel = `Select ${segment.name}`;
    select.setAttribute("aria-pressed", String(active));
    const name = make("input", { id: `name-${id}`, value: segment.name, maxLength: 80 });
    name.ariaLabel = "Name of the object";
    name.onchange = () => history.rename(id, name.value.trim() || `Object ${id}`);
    name.onkeydown = (event) => {
      if (event.key === "Enter") name.blur();
    };
    const eye = make("button", { id: `eye-${id}`, className: "icon" }, icon(segment.hidden ? "eyeOff" : "eye"));
    eye.ariaLabel = `${segment.hidden ? "Show" : "Hide"} ${segment.name}`;
    const bin = make("button", { id: `bin-${id}`, className: "icon" }, icon("bin"));
    bin.ariaLabel = `Delete ${segment.name}`;
    const mask = maskOf(segment);
    const share = mask ? area(mask.runs) / (this.size.width * this.size.height) : 0;
    const row = make(
      "li",
      { className: `object${active ? " active" : ""}${segment.hidden ? " off" : ""}` },
      select,
      name,
      make("span", { className: "area", textContent: mask ? percent(share) : isEmpty(segment.prompt) ? "" : "…" }),
      eye,
      bin,
    );
    row.onclick = (event) => {
      const target = event.target as Element;
      if (eye.contains(target)) history.toggle(id);
      else if (bin.contains(target)) history.remove(id);
      else if (!active) history.select(id);
    };
    return row;
  }
}

function percent(share: number): string {
  return share > 0 && share < 0.001 ? "<0.1%" : `${(100 * share).toFixed(1)}%`;
}
