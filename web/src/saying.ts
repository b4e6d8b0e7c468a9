// What a user says of a video's objects, sent to the server one after the other.

import { ApiError } from "./api";
import type { Film } from "./film";
import type { Prompt } from "./types";
import { isEmpty } from "./types";
import type { VideoApi } from "./video-api";

export interface SayingEvents {
  failed(what: string, error: unknown): void;
  passed(what: string): void;
  /** Something was asked for, or answered. */
  changed(): void;
}

export class Saying {
  private queue: Promise<void> = Promise.resolve();
  private waiting = 0;
  /** By object and frame, what the server knows: where something fails, the page goes back to that. */
  private readonly known = new Map<number, Map<number, Prompt>>();

  constructor(
    private readonly api: VideoApi,
    private readonly id: string,
    private readonly film: Film,
    private readonly events: SayingEvents,
  ) {}

  /** Whether an answer is waited for. */
  get busy(): boolean {
    return this.waiting > 0;
  }

  /** Wait until all that was said is answered. */
  settled(): Promise<void> {
    return this.queue;
  }

  /** Change what is said of the active object, or of a new one, on the frame that is shown. */
  say(change: (prompt: Prompt) => Prompt): void {
    const { film } = this;
    const { frame } = film;
    const object = film.active ?? film.add();
    const before = film.promptOf(frame, object);
    const prompt = change(before);
    film.setPrompt(frame, object, prompt);
    const known = this.known.get(object) ?? new Map<number, Prompt>();
    this.known.set(object, known);
    if (!known.has(frame)) known.set(frame, before);
    const undo = (): void => {
      // What was said since holds what this was, and is still to be answered.
      const now = film.promptOf(frame, object);
      if (now === prompt || (isEmpty(now) && isEmpty(prompt))) film.setPrompt(frame, object, known.get(frame)!);
      if (!film.saidOf(object).length) this.drop(object);
    };
    this.soon("point", async () => {
      if (isEmpty(prompt)) film.see(await this.api.clear(this.id, frame, object));
      else film.see(await this.api.point(this.id, frame, object, prompt));
      known.set(frame, prompt);
      // The server forgets an object of which nothing is said.
      if (!film.saidOf(object).length) this.drop(object);
    }, undo);
  }

  /** Forget an object, also while it is tracked. */
  remove(object: number): void {
    this.soon("remove", async () => {
      await this.api.removeObject(this.id, object).catch((error: unknown) => {
        // In another tab, say: then that is done.
        if (!(error instanceof ApiError && error.code === "object_unknown")) throw error;
      });
      this.drop(object);
    });
  }

  private drop(object: number): void {
    this.film.drop(object);
    this.known.delete(object);
  }

  /** Do work when what was asked before is done. */
  private soon(what: string, work: () => Promise<void>, undo: () => void = () => undefined): void {
    this.waiting++;
    this.events.changed();
    this.queue = this.queue.then(async () => {
      try {
        await work();
        this.events.passed(what);
      } catch (error) {
        undo();
        this.events.failed(what, error);
      } finally {
        this.waiting--;
        this.events.changed();
      }
    });
  }
}
