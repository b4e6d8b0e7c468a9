// What the user has made of a video: objects, what was said of them on which frame, and their masks.

import type { Doc, Segment } from "./document";
import { area } from "./rle";
import type { Mask, Prompt } from "./types";
import { EMPTY_PROMPT, isEmpty } from "./types";
import type { Seen } from "./video-api";

export interface FilmObject {
  readonly id: number;
  name: string;
  readonly color: number;
  hidden: boolean;
}

type ByObject<T> = Map<number, T>;

export class Film {
  readonly objects = new Map<number, FilmObject>();
  readonly masks = new Map<number, ByObject<Mask>>();
  private readonly prompts = new Map<number, ByObject<Prompt>>();
  frame = 0;
  active: number | null = null;

  /** The objects on the frame that is shown, as the canvas and the list take them. */
  get doc(): Doc {
    const masks = this.masks.get(this.frame);
    const segments = [...this.objects.values()].map(({ id, name, color, hidden }): Segment => {
      const mask = masks?.get(id);
      return {
        id,
        name,
        color,
        hidden,
        label: "",
        prompt: this.promptOf(this.frame, id),
        candidates: mask && area(mask.runs) ? [{ ...mask, score: 1 }] : [],
        chosen: 0,
        stale: false,
      };
    });
    return { segments, active: this.active, search: null };
  }

  promptOf(frame: number, id: number): Prompt {
    return this.prompts.get(frame)?.get(id) ?? EMPTY_PROMPT;
  }

  /** Frames on which something was said of an object. */
  saidOf(id: number): number[] {
    return [...this.prompts].filter(([, said]) => said.has(id)).map(([frame]) => frame);
  }

  setPrompt(frame: number, id: number, prompt: Prompt): void {
    const said = this.prompts.get(frame) ?? new Map<number, Prompt>();
    if (isEmpty(prompt)) said.delete(id);
    else said.set(id, prompt);
    if (said.size) this.prompts.set(frame, said);
    else this.prompts.delete(frame);
  }

  /** A new object, which becomes the active one. */
  add(id = 1 + Math.max(0, ...this.objects.keys()), name = `Object ${id}`): number {
    this.objects.set(id, { id, name, color: id - 1, hidden: false });
    this.active = id;
    return id;
  }

  /** Masks have come: they take the place of all on their frame. */
  see({ frame, masks }: Seen): void {
    this.masks.set(frame, new Map([...masks].filter(([id]) => this.objects.has(id))));
  }

  drop(id: number): void {
    this.objects.delete(id);
    for (const by of [...this.masks.values(), ...this.prompts.values()]) by.delete(id);
    for (const by of [this.masks, this.prompts]) {
      for (const [frame, inside] of by) if (!inside.size) by.delete(frame);
    }
    if (this.active === id) this.active = null;
  }
}
