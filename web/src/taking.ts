// The buttons that take objects away as files, and bring them in. The writers are loaded when needed.

import type { Classes } from "./classes";
import type { History, Segment } from "./document";
import { maskOf } from "./document";
import { byId } from "./dom";
import type { Kind } from "./exporting";
import type { Progress } from "./progress";
import type { Session } from "./session";

const KINDS: readonly Kind[] = ["mask", "labels", "cutout", "coco", "yolo", "labelme"];

export interface TakingEvents {
  notice(text: string): void;
  failed(what: string, error: unknown, retry?: () => void): void;
  passed(what: string): void;
}

export class Taking {
  private loaded = false;

  constructor(
    private readonly session: Session,
    private readonly history: History,
    private readonly classes: Classes,
    private readonly progress: Progress,
    private readonly events: TakingEvents,
  ) {
    for (const kind of KINDS) byId(`export-${kind}`).onclick = () => void this.take(kind);
    byId("scope").onchange = () => this.update();
    const input = byId<HTMLInputElement>("coco-file");
    byId("import").onclick = () => input.click();
    input.onchange = () => {
      const file = input.files?.[0];
      input.value = "";
      if (file) void this.bringIn(file);
    };
  }

  update(): void {
    const none = !this.chosen.length;
    for (const kind of KINDS) byId<HTMLButtonElement>(`export-${kind}`).disabled = none;
    if (!none && !this.loaded) {
      this.loaded = true;
      // Here when it is needed, though the server may be gone by then.
      import("./exporting").catch(() => (this.loaded = false));
    }
    byId<HTMLButtonElement>("import").disabled = !this.session.image;
  }

  /** Masks of a COCO file become objects of the open image. */
  async bringIn(file: Blob): Promise<void> {
    const { image } = this.session;
    if (!image) {
      this.events.failed("import", new Error("Open the image that the COCO file is of first."));
      return;
    }
    try {
      const { readCoco } = await import("./importing");
      const found = await readCoco(file, image.name, image.size);
      if (this.session.image !== image) return;
      this.classes.add(found.map(({ label }) => label));
      this.history.addMasks(found);
      this.events.passed("import");
      this.events.notice(`${found.length} ${found.length === 1 ? "object" : "objects"} came in.`);
    } catch (error) {
      this.events.failed("import", error);
    }
  }

  private get chosen(): readonly Segment[] {
    const { active, doc } = this.history;
    const one = byId<HTMLSelectElement>("scope").value === "one";
    return (one ? (active ? [active] : []) : doc.segments).filter(maskOf);
  }

  private async take(kind: Kind): Promise<void> {
    const { image } = this.session;
    const segments = this.chosen;
    if (!image || !segments.length) return;
    const end = this.progress.start("Writing the file…");
    try {
      const { write } = await import("./exporting");
      const objects = [];
      for (const segment of segments) {
        const mask = await this.session.fullMask(segment);
        if (mask) objects.push({ segment, mask });
      }
      const source = { name: image.name, blob: image.picture.blob, size: image.size };
      download(await write(kind, source, objects));
      this.events.passed("export");
    } catch (error) {
      this.events.failed("export", error, () => void this.take(kind));
    } finally {
      end();
    }
  }
}

export function download({ name, blob }: { readonly name: string; readonly blob: Blob }): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
