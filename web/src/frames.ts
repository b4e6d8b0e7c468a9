// Pictures of a video's frames: asked for once, kept for a while.

import type { Picture } from "./pictures";

/** Longest side of the pictures that are drawn. */
export const LONGEST = 1600;
const KEPT = 16;

export class Frames {
  private readonly kept = new Map<number, Promise<Picture>>();

  constructor(private readonly load: (frame: number) => Promise<Blob>) {}

  get(frame: number): Promise<Picture> {
    const found = this.kept.get(frame) ?? this.read(frame);
    this.kept.delete(frame);
    this.kept.set(frame, found); // the last one used
    for (const old of this.kept.keys()) {
      if (this.kept.size <= KEPT) break;
      this.kept.delete(old); // not closed: it may still be on the canvas
    }
    found.catch(() => this.kept.delete(frame)); // to be tried again
    return found;
  }

  private async read(frame: number): Promise<Picture> {
    const blob = await this.load(frame);
    const bitmap = await createImageBitmap(blob);
    return { blob, bitmap, small: bitmap, width: bitmap.width, height: bitmap.height };
  }
}
