// The side panel: candidates of the active object, and the list of objects.

import { color } from "./colors";
import type { History, Segment } from "./document";
import { maskOf } from "./document";
import { byId, icon, make } from "./dom";
import { MaskLayer } from "./layer";
import { area } from "./rle";
import type { Size } from "./types";

const THUMB = 160;

export class Panel {
  private picture: ImageBitmap | null = null;
  private size: Size = { width: 1, height: 1 };
  private shown: readonly unknown[] = [];
  private rows = new Map<number, Row>();
  private active = 0;

  constructor(private readonly history: History) {}

  setImage(picture: ImageBitmap, size: Size): void {
    this.picture = picture;
    this.size = size;
    this.shown = [];
    this.rows.clear();
    byId("objects").replaceChildren();
    this.update();
  }

  update(): void {
    this.updateCandidates();
    this.updateObjects();
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

  /** Rows stay the same elements while their object lives, so that focus and typing do too. */
  private updateObjects(): void {
    const { segments } = this.history.doc;
    byId("count").textContent = String(segments.filter(maskOf).length);
    const rows = new Map(segments.map((s) => [s.id, this.rows.get(s.id) ?? new Row(s.id, this.history)]));
    for (const [id, row] of this.rows) if (rows.get(id) !== row) row.element.remove();
    const list = byId("objects");
    segments.forEach((segment, i) => {
      const { element } = rows.get(segment.id)!;
      if (list.children[i] !== element) list.insertBefore(element, list.children[i] ?? null);
      rows.get(segment.id)!.update(segment, this.size);
    });
    this.rows = rows;
    if (this.active !== this.history.doc.active) {
      this.active = this.history.doc.active;
      const { element } = rows.get(this.active)!;
      // Not scrollIntoView: on a phone that would move the page away from the image.
      const below = element.offsetTop + element.offsetHeight - list.clientHeight;
      list.scrollTop = Math.min(Math.max(list.scrollTop, below), element.offsetTop);
    }
  }
}

class Row {
  readonly element: HTMLLIElement;
  private readonly select = make("button", { className: "swatch" });
  private readonly name = make("input", { maxLength: 80, ariaLabel: "Name of the object" });
  private readonly area = make("span", { className: "area" });
  private readonly eye = make("button", { className: "icon" });
  private readonly bin = make("button", { className: "icon" }, icon("bin"));
  private shown: Segment | null = null;

  constructor(
    id: number,
    private readonly history: History,
  ) {
    const { select, name, area, eye, bin } = this;
    this.element = make("li", {}, select, name, area, eye, bin);
    for (const [part, element] of Object.entries({ select, name, eye, bin })) {
      element.id = `${part}-${id}`;
    }
    name.onchange = () => history.rename(id, name.value.trim() || `Object ${id}`);
    name.onkeydown = (event) => {
      if (event.key === "Enter") name.blur();
    };
    eye.onclick = () => history.toggle(id);
    bin.onclick = () => history.remove(id);
    this.element.onclick = ({ target }) => {
      const elsewhere = eye.contains(target as Node) || bin.contains(target as Node);
      if (!elsewhere && history.doc.active !== id) history.select(id);
    };
  }

  update(segment: Segment, size: Size): void {
    const active = segment.id === this.history.doc.active;
    this.element.className = `object${active ? " active" : ""}${segment.hidden ? " off" : ""}`;
    this.select.setAttribute("aria-pressed", String(active));
    if (this.shown === segment) return;
    this.shown = segment;
    this.select.style.background = color(segment.color);
    this.select.ariaLabel = `Select ${segment.name}`;
    this.name.value = segment.name;
    this.eye.replaceChildren(icon(segment.hidden ? "eyeOff" : "eye"));
    this.eye.ariaLabel = `${segment.hidden ? "Show" : "Hide"} ${segment.name}`;
    this.bin.ariaLabel = `Delete ${segment.name}`;
    const mask = maskOf(segment);
    const share = mask ? area(mask.runs) / (size.width * size.height) : 0;
    this.area.textContent = mask ? percent(share) : segment.stale ? "…" : "";
  }
}

function percent(share: number): string {
  return share > 0 && share < 0.001 ? "<0.1%" : `${(100 * share).toFixed(1)}%`;
}
