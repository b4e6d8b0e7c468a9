// What the page and its decoding worker say to each other.

import type { Candidate, FeatureMap, Generation, MaskChoice, Prompt, Size, Wanted } from "./types";

export interface LoadMessage {
  readonly kind: "load";
  readonly graph: ArrayBuffer;
  readonly imageSize: number;
  readonly maskSize: number;
  readonly threshold: number;
  readonly maps: readonly FeatureMap[];
  readonly maskChoice: MaskChoice;
  readonly generation: Generation;
}

export interface ImageMessage {
  readonly kind: "image";
  /** float16, little-endian: the model's maps, one after the other */
  readonly embedding: ArrayBuffer;
  readonly original: Size;
  /** What the image has become in the model's square, before padding. */
  readonly resized: Size;
}

export interface DecodeMessage {
  readonly kind: "decode";
  readonly prompt: Prompt;
  readonly wanted: Wanted;
}

export type Request = (LoadMessage | ImageMessage | DecodeMessage) & { readonly id: number };

export type Reply =
  | { readonly id: number; readonly candidates?: Candidate[]; readonly threads?: number }
  | { readonly id: number; readonly error: string };
