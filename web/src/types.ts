// What passes between the page's parts.

/** Height and width, in pixels. */
export interface Size {
  readonly height: number;
  readonly width: number;
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Box {
  readonly x1: number;
  readonly y1: number;
  readonly x2: number;
  readonly y2: number;
}

export interface LabelledPoint extends Point {
  /** 1 adds to the object, 0 takes away. */
  readonly label: 0 | 1;
}

/** What the user pointed at, in image pixels. */
export interface Prompt {
  readonly points: readonly LabelledPoint[];
  readonly box: Box | null;
}

/** Run lengths of 0 and 1 in turn, column by column, as COCO counts them. */
export type Runs = Uint32Array;

export interface Candidate {
  readonly runs: Runs;
  /** The model's own estimate of the mask's IoU. */
  readonly score: number;
}

/** One of the arrays that flow from the encoder to the decoder. */
export interface FeatureMap {
  readonly name: string;
  /** Channels, height, width. */
  readonly shape: readonly number[];
}

/**
 * Which masks answer a prompt: all three an ambiguous one, or the best-scored of them alone; or the
 * best-scored in place of an unstable single one.
 */
export type MaskChoice = "sam" | "best" | "stable";

/** How prompts are completed and masks are formed. */
export type Generation = "sam" | "sam2";

export interface ModelInfo {
  readonly model: string;
  readonly checkpoint: string;
  readonly image_size: number;
  readonly mask_size: number;
  readonly mask_threshold: number;
  readonly maps: readonly FeatureMap[];
  readonly mask_choice: MaskChoice;
  readonly generation: Generation;
  readonly precision: string;
  readonly backend: string;
  readonly device: string;
  readonly version: string;
  readonly decoder: { readonly url: string; readonly sha256: string; readonly size: number } | null;
  readonly limits: { readonly max_upload_bytes: number; readonly max_pixels: number };
}

export interface Prediction {
  readonly candidates: readonly Candidate[];
  /** Milliseconds from asking to having it. */
  readonly ms: number;
}

export const EMPTY_PROMPT: Prompt = { points: [], box: null };

export function isEmpty(prompt: Prompt): boolean {
  return prompt.points.length === 0 && prompt.box === null;
}

/**
 * How many candidates a prompt gets: three for one ambiguous point; for anything more the single
 * mask too, which the model was trained to give then, and which comes first.
 */
export function candidateCount(prompt: Prompt): 3 | 4 {
  return prompt.points.length === 1 && prompt.box === null ? 3 : 4;
}
