// One open image: uploading it, asking for masks, and asking again when the server forgot it.

import { type Api, ApiError } from "./api";
import type { Decoding, ImageRef } from "./decoding";
import type { History } from "./document";
import type { Candidate, Point, Prompt } from "./types";
import { isEmpty } from "./types";

/** Longest side of the picture that is drawn; the server and exports have all pixels. */
const DRAWN = 4096;
const RETRIES = 3;

export interface OpenImage {
  readonly blob: Blob;
  readonly name: string;
  readonly picture: ImageBitmap;
  readonly ref: ImageRef;
}

export interface SessionEvents {
  /** Something long began (a text) or ended (null). */
  progress(text: string | null): void;
  opened(image: OpenImage): void;
  encoded(ms: number): void;
  prompted(ms: number): void;
  hovered(candidate: Candidate | null): void;
  notice(text: string): void;
  failed(error: unknown, retry: () => void): void;
}

export class Session {
  image: OpenImage | null = null;
  decoding: Decoding;
  private predicting = false;
  private hoverAt: Point | null = null;
  private hovering = false;
  private opening = new AbortController();
  private uploading: Promise<ImageRef> | null = null;

  constructor(
    private readonly api: Api,
    private readonly history: History,
    private readonly events: SessionEvents,
    decoding: Decoding,
  ) {
    this.decoding = decoding;
  }

  /** Upload an image and make it the open one; what was open stays if that fails. */
  async open(blob: Blob, name: string): Promise<void> {
    this.opening.abort();
    const { signal } = (this.opening = new AbortController());
    this.events.progress("Uploading and encoding…");
    try {
      const { ref, ms } = await this.upload(blob, signal);
      const picture = await drawable(blob);
      signal.throwIfAborted();
      if (this.image) this.api.remove(this.image.ref.id);
      this.image = { blob, name, picture, ref };
      this.setHover(null);
      this.history.reset();
      this.events.opened(this.image);
      this.events.encoded(ms);
    } catch (error) {
      if (!signal.aborted) this.events.failed(error, () => void this.open(blob, name));
    } finally {
      if (!signal.aborted) {
        this.events.progress(null);
        // What was asked about the image before was called off; it may still be the open one.
        void this.refresh();
      }
    }
  }

  /** Ask for masks until every object has those of its prompt. */
  async refresh(): Promise<void> {
    if (this.predicting) return;
    this.predicting = true;
    try {
      for (;;) {
        const { active, doc } = this.history;
        const segment = active.stale ? active : doc.segments.find((s) => s.stale);
        if (!segment || !this.image) break;
        const { image } = this;
        const { candidates, ms } = await this.predict(segment.prompt, false);
        if (this.image.blob !== image.blob) continue;
        this.history.setCandidates(segment.prompt, candidates);
        this.events.prompted(ms);
      }
    } catch (error) {
      if (!calledOff(error)) this.events.failed(error, () => void this.refresh());
    } finally {
      this.predicting = false;
    }
  }

  /** Preview what a click here would give; null ends it. Only the newest place is asked for. */
  setHover(at: Point | null): void {
    this.hoverAt = at;
    if (!at) this.events.hovered(null);
    else if (!this.hovering) void this.followPointer();
  }

  /** Find all objects. Returns when done or cancelled. */
  async auto(pointsPerSide: number, signal: AbortSignal): Promise<void> {
    this.events.progress("Looking for all objects…");
    const blob = this.image?.blob;
    try {
      const found = await this.withImage((ref) => this.api.auto(ref.id, pointsPerSide, signal));
      if (this.image?.blob !== blob) return;
      this.history.addMasks(found);
      this.events.notice(
        found.length ? `Found ${found.length} objects.` : "No mask was good enough to keep.",
      );
    } catch (error) {
      if (!signal.aborted) this.events.failed(error, () => void this.auto(pointsPerSide, signal));
    } finally {
      this.events.progress(null);
    }
  }

  private async followPointer(): Promise<void> {
    this.hovering = true;
    try {
      while (this.hoverAt && this.image && isEmpty(this.history.active.prompt)) {
        const at = this.hoverAt;
        const prompt: Prompt = { points: [{ ...at, label: 1 }], box: null };
        const { candidates, ms } = await this.predict(prompt, true);
        if (!this.hoverAt || !isEmpty(this.history.active.prompt)) break;
        this.events.hovered(candidates[0] ?? null);
        this.events.prompted(ms);
        if (this.hoverAt === at) break;
      }
    } catch {
      // A preview that fails is no loss; a click on the same place reports what is wrong.
      this.events.hovered(null);
    } finally {
      this.hovering = false;
    }
  }

  private predict(prompt: Prompt, bestOnly: boolean) {
    const { signal } = this.opening;
    return this.withImage((ref) => this.decoding.predict(ref, prompt, bestOnly, signal));
  }

  /** Run work on the image; where the server dropped it, upload it again; where busy, wait. */
  private async withImage<T>(work: (ref: ImageRef) => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      if (!this.image) throw new Error("Open an image first.");
      const { ref } = this.image;
      try {
        return await work(ref);
      } catch (error) {
        if (!(error instanceof ApiError) || attempt === RETRIES) throw error;
        if (error.imageIsGone) await this.restore(ref);
        else if (error.status === 429) await pause(1000 * (error.retryAfter ?? 1));
        else throw error;
      }
    }
  }

  /** Upload the open image again, once, however many requests found it gone. */
  private async restore(gone: ImageRef): Promise<void> {
    const { image } = this;
    if (!image || image.ref !== gone) return;
    this.uploading ??= this.upload(image.blob, this.opening.signal)
      .then(({ ref, ms }) => {
        this.image = { ...image, ref };
        this.events.encoded(ms);
        this.events.notice("The server had dropped the image, so it was uploaded again.");
        return ref;
      })
      .finally(() => (this.uploading = null));
    await this.uploading;
  }

  private async upload(
    blob: Blob,
    signal: AbortSignal,
  ): Promise<{ ref: ImageRef; ms: number }> {
    for (let attempt = 0; ; attempt++) {
      try {
        const { id, width, height, encode_ms: ms } = await this.api.upload(blob, signal);
        return { ref: { id, size: { width, height } }, ms };
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 429 || attempt === RETRIES) throw error;
        await pause(1000 * (error.retryAfter ?? 1));
      }
    }
  }
}

/** The picture as it is drawn: upright, and no larger than a screen needs. */
async function drawable(blob: Blob): Promise<ImageBitmap> {
  let full: ImageBitmap;
  try {
    full = await createImageBitmap(blob);
  } catch {
    throw new Error("This browser cannot show images of this format. Convert it to JPEG or PNG.");
  }
  const longest = Math.max(full.width, full.height);
  if (longest <= DRAWN) return full;
  const small = await createImageBitmap(full, {
    resizeWidth: Math.max(1, Math.round((full.width * DRAWN) / longest)),
    resizeHeight: Math.max(1, Math.round((full.height * DRAWN) / longest)),
    resizeQuality: "high",
  });
  full.close();
  return small;
}

function calledOff(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
