// The list of objects: one row each, to select, name, hide and delete it.

import { color } from "./colors";
import type { Doc, Segment } from "./document";
import { maskOf } from "./document";
import { byId, icon, make } from "./dom";
import { area } from "./rle";

/** Where the objects are that are listed, and what a user may do with them. */
export interface Listed {
  readonly doc: Doc;
  select(id: number | null): void;
  rename(id: number, name: string): void;
  toggle(id: number): void;
  remove(id: number): void;
}

export class Objects {
  private rows = new Map<number, Row>();
  private active: number | null = null;
  private highlighted: number | null = null;
  /** The pointer is over an object's row, or over none. */
  onhover: (id: number | null) => void = () => undefined;

  constructor(private listed: Listed) {
    byId("objects").onpointerleave = () => this.onhover(null);
  }

  /** List the objects of something else. */
  list(listed: Listed): void {
    this.listed = listed;
    for (const { element } of this.rows.values()) element.remove();
    this.rows.clear();
    this.active = null;
    this.update();
  }

  /** Rows stay the same elements while their object lives, so that focus and typing do too. */
  update(): void {
    const { segments, active } = this.listed.doc;
    byId("count").textContent = String(segments.length);
    byId("no-objects").hidden = segments.length > 0;
    const rows = new Map(segments.map((s) => [s.id, this.rows.get(s.id) ?? this.newRow(s.id)]));
    for (const [id, row] of this.rows) if (rows.get(id) !== row) row.element.remove();
    const list = byId("objects");
    segments.forEach((segment, i) => {
      const { element } = rows.get(segment.id)!;
      if (list.children[i] !== element) list.insertBefore(element, list.children[i] ?? null);
      rows.get(segment.id)!.update(segment);
    });
    this.rows = rows;
    if (this.active !== active) {
      this.active = active;
      this.reveal(active);
    }
  }

  /** Make the row of the object under the pointer stand out. */
  highlight(id: number | null): void {
    if (id === this.highlighted) return;
    for (const [one, on] of [[this.highlighted, false], [id, true]] as const) {
      if (one !== null) this.rows.get(one)?.element.classList.toggle("hot", on);
    }
    this.highlighted = id;
  }

  private newRow(id: number): Row {
    const row = new Row(id, this.listed);
    row.element.onpointerenter = () => this.onhover(id);
    return row;
  }

  private reveal(id: number | null): void {
    const element = id === null ? null : this.rows.get(id)?.element;
    if (!element) return;
    // Not scrollIntoView: on a phone that would move the page away from the image.
    const list = byId("objects");
    const below = element.offsetTop + element.offsetHeight - list.clientHeight;
    list.scrollTop = Math.min(Math.max(list.scrollTop, below), element.offsetTop);
  }
}

class Row {
  readonly element: HTMLLIElement;
  private readonly select = make("button", { className: "swatch" });
  private readonly name = make("input", { maxLength: 80, ariaLabel: "Name of the object" });
  private readonly label = make("span", { className: "label" });
  private readonly area = make("span", { className: "area" });
  private readonly eye = make("button", { className: "icon" });
  private readonly bin = make("button", { className: "icon" }, icon("bin"));
  private shown: Segment | null = null;

  constructor(
    id: number,
    private readonly listed: Listed,
  ) {
    const { select, name, label, area: share, eye, bin } = this;
    this.element = make("li", {}, select, name, label, share, eye, bin);
    for (const [part, element] of Object.entries({ select, name, eye, bin })) {
      element.id = `${part}-${id}`;
    }
    name.onchange = () => listed.rename(id, name.value.trim() || `Object ${id}`);
    name.onkeydown = (event) => {
      if (event.key === "Enter") name.blur();
    };
    eye.onclick = () => listed.toggle(id);
    bin.onclick = () => listed.remove(id);
    this.element.onclick = ({ target }) => {
      const elsewhere = eye.contains(target as Node) || bin.contains(target as Node);
      if (!elsewhere) listed.select(id);
    };
  }

  update(segment: Segment): void {
    const active = segment.id === this.listed.doc.active;
    this.element.classList.add("object");
    this.element.classList.toggle("active", active);
    this.element.classList.toggle("off", segment.hidden);
    this.select.setAttribute("aria-pressed", String(active));
    if (this.shown === segment) return;
    this.shown = segment;
    this.select.style.background = color(segment.color);
    this.select.ariaLabel = `Select ${segment.name}`;
    this.name.value = segment.name;
    this.label.textContent = segment.label;
    this.eye.replaceChildren(icon(segment.hidden ? "eyeOff" : "eye"));
    this.eye.ariaLabel = `${segment.hidden ? "Show" : "Hide"} ${segment.name}`;
    this.bin.ariaLabel = `Delete ${segment.name}`;
    const mask = maskOf(segment);
    const share = mask ? area(mask.runs) / (mask.size.width * mask.size.height) : 0;
    this.area.textContent = mask ? percent(share) : "…";
  }
}

function percent(share: number): string {
  return share > 0 && share < 0.001 ? "<0.1%" : `${(100 * share).toFixed(1)}%`;
}
