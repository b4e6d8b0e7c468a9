// What a user says of a video's objects, sent to the server one after the other.

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
    const undo = (): void => {
      // What was said since holds what this was, and is still to be answered.
      if (film.promptOf(frame, object) === prompt) film.setPrompt(frame, object, before);
      if (!film.saidOf(object).length) film.drop(object);
    };
    this.soon("point", async () => {
      if (isEmpty(prompt)) film.see(await this.api.clear(this.id, frame, object));
      else film.see(await this.api.point(this.id, frame, object, prompt));
      // The server forgets an object of which nothing is said.
      if (!film.saidOf(object).length) film.drop(object);
    }, undo);
  }

  /** Forget an object, also while it is tracked. */
  remove(object: number): void {
    this.soon("remove", async () => {
      await this.api.removeObject(this.id, object);
      this.film.drop(object);
    });
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
