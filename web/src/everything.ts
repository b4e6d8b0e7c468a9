// "Find everything": the search, and the sliders that filter what it found without asking again.

import type { History } from "./document";
import { byId } from "./dom";
import { passing, whyNone } from "./filtering";
import type { Progress } from "./progress";
import type { Session } from "./session";
import type { Thresholds } from "./types";

export interface EverythingEvents {
  notice(text: string): void;
  failed(what: string, error: unknown, retry: () => void): void;
  passed(what: string): void;
  update(): void;
}

export class Everything {
  running = false;
  private readonly sliders = {
    iou: byId<HTMLInputElement>("least-iou"),
    stability: byId<HTMLInputElement>("least-stability"),
  };
  /** Whether this drag of a slider has its step in the history already. */
  private moving = false;

  constructor(
    private readonly history: History,
    private readonly session: Session,
    private readonly progress: Progress,
    private readonly events: EverythingEvents,
  ) {
    for (const slider of Object.values(this.sliders)) {
      slider.oninput = () => {
        history.filter(this.thresholds, !this.moving);
        this.moving = true;
        this.tell();
      };
      slider.onchange = () => (this.moving = false);
    }
    this.tell();
  }

  /** The model's own thresholds, until the user moves the sliders. */
  setDefaults({ iou, stability }: Thresholds): void {
    this.show({ iou, stability });
    this.tell();
  }

  /** Follow the document: undo brings back thresholds too. */
  update(): void {
    const { search } = this.history.doc;
    if (search) this.show(search);
    this.tell();
  }

  async run(): Promise<void> {
    const { image } = this.session;
    if (!image || this.running) return;
    this.running = true;
    this.events.update();
    const control = new AbortController();
    const end = this.progress.start("Looking for all objects…", () => control.abort());
    try {
      const grid = Number(byId<HTMLSelectElement>("grid").value);
      const found = await this.session.search(grid, control.signal);
      if (this.session.image !== image || control.signal.aborted) return;
      this.history.startSearch(found, this.thresholds);
      this.events.passed("search");
      const count = passing(found, this.thresholds).length;
      if (count) this.events.notice(`Found ${count} ${count === 1 ? "object" : "objects"}.`);
    } catch (error) {
      if (control.signal.aborted || this.session.image !== image) return;
      this.events.failed("search", error, () => void this.run());
    } finally {
      end();
      this.running = false;
      this.events.update();
    }
  }

  private get thresholds(): Thresholds {
    return {
      iou: this.sliders.iou.valueAsNumber,
      stability: this.sliders.stability.valueAsNumber,
    };
  }

  private show({ iou, stability }: Thresholds): void {
    this.sliders.iou.valueAsNumber = iou;
    this.sliders.stability.valueAsNumber = stability;
  }

  private tell(): void {
    const { iou, stability } = this.thresholds;
    byId("least-iou-value").textContent = iou.toFixed(2);
    byId("least-stability-value").textContent = stability.toFixed(2);
    const { search } = this.history.doc;
    const box = byId("found");
    if (!search) {
      box.textContent = "";
      return;
    }
    const count = passing(search.found, search).length;
    box.textContent = count
      ? `${count} of ${search.found.length} masks pass and repeat no other.`
      : whyNone(search.found, search);
    box.classList.toggle("warning", !count);
  }
}
