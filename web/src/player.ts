// Which frame of a video is on the page: one that is asked for, the next one, or those that play.

import type { Film } from "./film";
import { Frames } from "./frames";
import type { Picture } from "./pictures";

export interface PlayerEvents {
  /** A frame's picture is here, and the film is at it. */
  shown(picture: Picture): void;
  failed(error: unknown, retry: () => void): void;
  passed(): void;
  /** Playing has begun, or ended. */
  changed(): void;
}

export class Player {
  playing = false;
  private turn = 0;
  /** The frame that is asked for, whose picture may still be on its way. */
  private wanted = 0;
  private readonly frames: Frames;

  constructor(
    private readonly film: Film,
    private readonly times: readonly number[],
    load: (frame: number) => Promise<Blob>,
    private readonly events: PlayerEvents,
  ) {
    this.frames = new Frames(load);
  }

  step(by: number): void {
    void this.show(this.wanted + by);
  }

  /** Show a frame; of several that are asked for, the last. */
  async show(frame: number): Promise<void> {
    const at = Math.min(Math.max(frame, 0), this.times.length - 1);
    const turn = ++this.turn;
    this.wanted = at;
    let picture: Picture;
    try {
      picture = await this.frames.get(at);
      this.events.passed();
    } catch (error) {
      if (turn !== this.turn) return;
      // What is found of others is still to be reached.
      picture = await empty();
      this.events.failed(error, () => void this.show(at));
    }
    if (turn !== this.turn) return;
    this.film.frame = at;
    this.events.shown(picture);
  }

  /** Play from here, or from the start where this is the end; or pause. */
  async play(): Promise<void> {
    const { film, times } = this;
    this.playing = !this.playing;
    this.events.changed();
    if (this.playing && film.frame === times.length - 1) await this.show(0);
    while (this.playing && film.frame < times.length - 1) {
      const [frame, began] = [film.frame, performance.now()];
      if (frame + 2 < times.length) this.frames.get(frame + 2).catch(() => undefined);
      await this.show(frame + 1);
      if (film.frame !== frame + 1) break; // the user has gone elsewhere
      const wait = 1000 * (times[frame + 1]! - times[frame]!) - (performance.now() - began);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, wait)));
    }
    this.playing = false;
    this.events.changed();
  }

  /** Pause; a picture that is on its way is not shown any more. */
  halt(): void {
    this.playing = false;
    this.turn++;
  }
}

/** A picture with nothing on it. */
async function empty(): Promise<Picture> {
  const bitmap = await createImageBitmap(new ImageData(16, 16));
  return { blob: new Blob(), bitmap, small: bitmap, width: 16, height: 16 };
}
