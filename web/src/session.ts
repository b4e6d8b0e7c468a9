// One open image: encoding it, asking for masks, and asking again when the server forgot it.

import { type Api, ApiError } from "./api";
import type { Decoding, ImageRef } from "./decoding";
import type { History, Segment } from "./document";
import { maskOf } from "./document";
import { closePicture, type Picture } from "./pictures";
import type { Candidate, Found, Mask, Point, Prediction, Prompt, Size, Wanted } from "./types";
import { EMPTY_PROMPT, sameSize } from "./types";

const RETRIES = 3;
/** Images whose embeddings the server is asked to keep, so that going back is quick. */
const HELD = 8;
/** Images with a longer side than this are shown with masks of `SHOWN` pixels. */
const LARGE = 2048;
const SHOWN = 1280;
/** Longer side of the masks of an automatic search, of which there are thousands. */
const SEARCHED = 1024;

export interface OpenImage {
  /** As the user gave it, and by what it is known. */
  readonly hash: string;
  readonly name: string;
  readonly picture: Picture;
  readonly size: Size;
}

export interface SessionEvents {
  /** The server begins to encode; call `cancel` to end that. */
  encoding(cancel: () => void): void;
  /** It has ended, after `ms` of work, or without an embedding (null). */
  encoded(ms: number | null): void;
  prompted(ms: number): void;
  hovered(candidate: Candidate | null): void;
  notice(text: string): void;
  /** Something failed; `retry` does it again. */
  failed(what: string, error: unknown, retry: () => void): void;
  /** What had failed was done. */
  passed(what: string): void;
}

export class Session {
  image: OpenImage | null = null;
  decoding: Decoding;
  /** Islands and holes of masks with fewer cells of the low-res logits are removed. */
  specks = 0;
  private ref: ImageRef | null = null;
  private encoding: Promise<ImageRef> | null = null;
  private readonly held = new Map<string, ImageRef>();
  private readonly refused = new Set<Prompt>();
  private predicting = false;
  private hoverAt: Point | null = null;
  private hovering = false;
  private opening = new AbortController();

  constructor(
    private readonly api: Api,
    private readonly history: History,
    private readonly events: SessionEvents,
    decoding: Decoding,
  ) {
    this.decoding = decoding;
  }

  /** Whether masks can be had without encoding first. */
  get ready(): boolean {
    return this.ref !== null;
  }

  /** Make an image the open one, and have it encoded. */
  show(image: OpenImage): void {
    this.opening.abort();
    this.opening = new AbortController();
    this.setHover(null);
    if (this.image) closePicture(this.image.picture);
    this.image = image;
    this.encoding = null;
    this.refused.clear();
    this.ref = this.held.get(image.hash) ?? null;
    if (this.ref) this.events.encoded(null);
    else this.encode();
  }

  /** Have the open image encoded, if it is not and nobody does. */
  encode(): void {
    if (this.image && !this.ref && !this.encoding) {
      this.encoded().then(
        () => void this.refresh(),
        () => undefined, // told by `encoded`
      );
    }
  }

  /** Ask for masks until every object has those of its prompt. */
  async refresh(): Promise<void> {
    if (this.predicting || !this.wanted()) return;
    this.predicting = true;
    try {
      for (let segment = this.wanted(); segment && this.image; segment = this.wanted()) {
        const { image } = this;
        try {
          const { candidates, ms } = await this.predict(segment.prompt, this.shown(false));
          if (this.image !== image) continue;
          this.history.setCandidates(segment.prompt, candidates);
          this.events.prompted(ms);
        } catch (error) {
          if (this.image !== image) continue;
          if (calledOff(error)) break;
          // One that is at fault itself must not hold up the others.
          this.refused.add(segment.prompt);
          this.events.failed("masks", error, () => this.retryMasks());
          if (!(error instanceof ApiError) || error.mayPass) break;
        }
      }
      if (!this.refused.size && !this.wanted()) this.events.passed("masks");
    } finally {
      this.predicting = false;
    }
  }

  /** Preview what a click here would give; null ends it. Only the newest place is asked for. */
  setHover(at: Point | null): void {
    this.hoverAt = at;
    if (!at) this.events.hovered(null);
    else if (!this.hovering && this.ref) void this.followPointer();
  }

  /** All masks of a grid of points, before any filter. */
  async search(pointsPerSide: number, signal: AbortSignal): Promise<Found[]> {
    const { specks } = this;
    const wanted = { longest: SEARCHED, specks };
    const found = await this.withImage((ref) => this.api.auto(ref.id, pointsPerSide, wanted, signal));
    return found.map((mask) => ({ ...mask, specks }));
  }

  /**
   * An object's mask in all pixels of the image: what is shown of a large one is coarser.
   * Asks for it anew where needed, and takes the answer whose score is nearest to what is shown.
   */
  async fullMask(segment: Segment): Promise<Mask | null> {
    const shown = maskOf(segment);
    if (!shown || !this.image || sameSize(shown.size, this.image.size)) return shown ?? null;
    const wanted = { bestOnly: false, longest: null, specks: shown.specks ?? 0 };
    const { candidates } = await this.predict(segment.prompt, wanted);
    const off = (one: Candidate): number => Math.abs(one.score - shown.score);
    return candidates.reduce((best, one) => (off(one) < off(best) ? one : best));
  }

  private wanted(): Segment | undefined {
    const { active, doc } = this.history;
    const asks = (s: Segment): boolean => s.stale && !this.refused.has(s.prompt);
    return active && asks(active) ? active : doc.segments.find(asks);
  }

  private retryMasks(): void {
    this.refused.clear();
    void this.refresh();
  }

  private async followPointer(): Promise<void> {
    this.hovering = true;
    try {
      while (this.hoverAt && this.ref && !this.history.active) {
        const at = this.hoverAt;
        const prompt: Prompt = { ...EMPTY_PROMPT, points: [{ ...at, label: 1 }] };
        const { candidates, ms } = await this.predict(prompt, this.shown(true));
        if (!this.hoverAt || this.history.active) break;
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

  private async predict(prompt: Prompt, wanted: Wanted): Promise<Prediction> {
    const { signal } = this.opening;
    const { candidates, ms } = await this.withImage((ref) =>
      this.decode(ref, prompt, wanted, signal),
    );
    return { candidates: candidates.map((one) => ({ ...one, specks: wanted.specks })), ms };
  }

  private async decode(ref: ImageRef, prompt: Prompt, wanted: Wanted, signal: AbortSignal): Promise<Prediction> {
    for (;;) {
      const { decoding } = this;
      try {
        return await decoding.predict(ref, prompt, wanted, signal);
      } catch (error) {
        if (decoding === this.decoding || signal.aborted) throw error;
        // It was stopped, and another one has taken its place.
      }
    }
  }

  /** How masks are wanted that are only shown. */
  private shown(bestOnly: boolean): Wanted {
    const { width, height } = this.image!.size;
    const longest = Math.max(width, height) > LARGE ? SHOWN : null;
    return { bestOnly, longest, specks: this.specks };
  }

  /** Run work on the image; where the server dropped it, upload it again; where busy, wait. */
  private async withImage<T>(work: (ref: ImageRef) => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      const ref = await this.encoded();
      try {
        return await work(ref);
      } catch (error) {
        if (!(error instanceof ApiError) || attempt === RETRIES) throw error;
        if (error.imageIsGone) this.forget(ref);
        else if (error.status === 429) await pause(1000 * (error.retryAfter ?? 1));
        else throw error;
      }
    }
  }

  private forget(gone: ImageRef): void {
    if (this.ref !== gone) return;
    this.ref = null;
    this.held.delete(this.image!.hash);
    this.events.notice("The server had dropped the image, so it is uploaded again.");
  }

  /** The image's embedding on the server; has it made, once, where there is none. */
  private encoded(): Promise<ImageRef> {
    if (!this.image) return Promise.reject(new Error("Open an image first."));
    if (this.ref) return Promise.resolve(this.ref);
    this.encoding ??= this.startEncoding(this.image, this.opening);
    return this.encoding;
  }

  private async startEncoding(image: OpenImage, opening: AbortController): Promise<ImageRef> {
    const cancel = new AbortController();
    const signal = AbortSignal.any([opening.signal, cancel.signal]);
    this.events.encoding(() => cancel.abort());
    try {
      const { ref, ms } = await this.upload(image.picture.blob, signal);
      signal.throwIfAborted();
      this.ref = ref;
      this.hold(image.hash, ref);
      this.events.encoded(ms);
      this.events.passed("encode");
      // The pointer may have come to rest meanwhile.
      if (this.hoverAt && !this.hovering) void this.followPointer();
      return ref;
    } catch (error) {
      if (!opening.signal.aborted) {
        this.events.encoded(null);
        if (!cancel.signal.aborted) this.events.failed("encode", error, () => this.encode());
      }
      // Whoever waits for it has nothing more to say.
      throw calledOff(error) ? error : new DOMException("not encoded", "AbortError");
    } finally {
      if (this.opening === opening) this.encoding = null;
    }
  }

  private hold(hash: string, ref: ImageRef): void {
    this.held.set(hash, ref);
    for (const [old, { id }] of this.held) {
      if (this.held.size <= HELD) break;
      this.held.delete(old);
      this.api.remove(id);
    }
  }

  private async upload(blob: Blob, signal: AbortSignal): Promise<{ ref: ImageRef; ms: number }> {
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

function calledOff(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
