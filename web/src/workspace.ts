// The list of images, opening one with the work that was done on it, and keeping that work.

import type { History, Saved } from "./document";
import { contentHash } from "./hash";
import { closePicture, readPicture } from "./pictures";
import type { OpenImage, Session } from "./session";
import type { Storage } from "./storage";

export interface Entry {
  readonly name: string;
  readonly blob: Blob;
  /** Known once it was opened. */
  hash: string | null;
  /** Objects on it, as far as is known. */
  count: number;
}

export interface WorkspaceEvents {
  opening(name: string): () => void;
  opened(image: OpenImage): void;
  failed(error: unknown): void;
  changed(): void;
  /** Whether all work is kept for the next visit. */
  kept(all: boolean): void;
}

/** The hash of the image that is open, for the next visit. */
const OPEN_KEY = "samtrt-open";
/** Milliseconds after a change that the work is kept. */
const DELAY = 250;

export class Workspace {
  entries: readonly Entry[] = [];
  /** The entry that is open. */
  current: Entry | null = null;
  private turn = 0;
  private timer = 0;
  private kept: Saved["current"] | null = null;
  /** Of this visit, for browsers that keep nothing. */
  private readonly works = new Map<string, Saved>();

  constructor(
    private readonly session: Session,
    private readonly history: History,
    private readonly storage: Storage,
    private readonly events: WorkspaceEvents,
  ) {
    // Phones close pages without another word.
    document.addEventListener("visibilitychange", () => void this.keep());
    window.addEventListener("pagehide", () => void this.keep());
  }

  /** Add image files to the list and open the first of them. */
  async add(files: readonly { readonly name: string; readonly blob: Blob }[]): Promise<void> {
    const added: Entry[] = files.map((file) => ({ ...file, hash: null, count: 0 }));
    this.entries = [...this.entries, ...added];
    this.events.changed();
    if (added[0]) await this.open(added[0]);
  }

  /** Take up what an earlier visit left. */
  async restore(): Promise<void> {
    const images = await this.storage.images();
    const order = new Intl.Collator(undefined, { numeric: true });
    images.sort((a, b) => order.compare(a.name, b.name));
    const entries: Entry[] = [];
    for (const { name, blob, hash } of images) {
      entries.push({ name, blob, hash, count: (await this.storage.work(hash))?.count ?? 0 });
    }
    if (this.entries.length) return; // the user was quicker
    this.entries = entries;
    this.events.changed();
    const open = entries.find((entry) => entry.hash === localStorage.getItem(OPEN_KEY));
    if (open) await this.open(open);
  }

  /** Open the image that many places on in the list; false where there is but one. */
  step(by: number): boolean {
    const next = this.entries[this.entries.indexOf(this.current!) + by];
    if (next) void this.open(next);
    return this.entries.length > 1;
  }

  /** Open an image of the list; where that fails, what was open stays. */
  async open(entry: Entry): Promise<void> {
    const turn = ++this.turn;
    const done = this.events.opening(entry.name);
    try {
      const picture = await readPicture(entry.blob);
      const hash = (entry.hash ??= await contentHash(entry.blob));
      await this.keep();
      const saved = this.works.get(hash) ?? (await this.storage.work(hash))?.saved ?? null;
      if (turn !== this.turn) {
        closePicture(picture);
        return;
      }
      void this.keep();
      this.settle(entry, hash);
      entry.count = saved?.current.segments.length ?? 0;
      const { name } = entry;
      const size = { width: picture.width, height: picture.height };
      const image: OpenImage = { hash, name, picture, size };
      this.kept = saved?.current ?? null;
      this.session.show(image);
      // Before anybody asks the server: what was said of one image is not asked of the next.
      this.history.load(saved);
      this.events.opened(image);
      this.history.onchange();
      this.events.changed();
      localStorage.setItem(OPEN_KEY, hash);
      void this.storage.putImage({ hash, name, blob: entry.blob, opened: Date.now() });
    } catch (error) {
      if (entry !== this.current && !entry.hash) this.drop(entry);
      if (turn === this.turn) this.events.failed(error);
    } finally {
      done();
    }
  }

  /** Take an image off the list; the work on it is kept, should it come again. */
  remove(entry: Entry): void {
    if (entry === this.current) return;
    if (entry.hash) void this.storage.forgetImage(entry.hash);
    this.drop(entry);
  }

  /** The document has changed: keep it soon. */
  touch(): void {
    if (!this.current || this.history.doc === this.kept) return;
    this.current.count = this.history.doc.segments.length;
    this.events.kept(false);
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.keep(), DELAY);
  }

  /** Keep the open image's work now. */
  private async keep(): Promise<void> {
    clearTimeout(this.timer);
    const hash = this.current?.hash;
    const { saved } = this.history;
    if (!hash || saved.current === this.kept) return;
    this.kept = saved.current;
    const copy = { past: [...saved.past], current: saved.current, future: [...saved.future] };
    this.works.set(hash, copy);
    await this.storage.putWork(hash, copy, saved.current.segments.length);
    if (this.history.doc === this.kept) this.events.kept(true);
  }

  /** Make an entry the open one; the same image twice is one entry. */
  private settle(entry: Entry, hash: string): void {
    const before = this.entries.find((other) => other !== entry && other.hash === hash);
    if (before) this.entries = this.entries.filter((other) => other !== before);
    this.current = entry;
  }

  private drop(entry: Entry): void {
    this.entries = this.entries.filter((other) => other !== entry);
    this.events.changed();
  }
}
