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

/** Run lengths of 0 and 1 in turn, column by column, as COCO counts them. */
export type Runs = Uint32Array;

/** A mask on a grid that covers the image; of large images the grid is coarser than the pixels. */
export interface Mask {
  readonly runs: Runs;
  readonly size: Size;
}

/** What the user pointed at, in image pixels. */
export interface Prompt {
  readonly points: readonly LabelledPoint[];
  readonly box: Box | null;
  /** What a mask should start from, on the image's own grid. */
  readonly mask: Mask | null;
}

export interface Candidate extends Mask {
  /** The model's own estimate of the mask's IoU. */
  readonly score: number;
  /** Cells of low-res logits that parts of it have at least. */
  readonly specks?: number;
  /** Painted by the user or brought in from a file: the model has no say in it. */
  readonly edited?: boolean;
}

/** A mask of the automatic search, before the filters. */
export interface Found extends Candidate {
  readonly stability: number;
  /** Bounding box on the mask's grid. */
  readonly box: Box;
  /** The grid point that found it, in image pixels. */
  readonly point: Point;
}

/** What automatic masks have to reach. */
export interface Thresholds {
  readonly iou: number;
  readonly stability: number;
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
  readonly specks: number;
  readonly automatic: {
    readonly pred_iou_thresh: number;
    readonly stability_score_thresh: number;
  };
  readonly maps: readonly FeatureMap[];
  readonly mask_choice: MaskChoice;
  readonly generation: Generation;
  readonly precision: string;
  readonly backend: string;
  readonly device: string;
  readonly version: string;
  readonly decoder: { readonly url: string; readonly sha256: string; readonly size: number } | null;
  /** What it takes of videos; null where it follows no objects. */
  readonly video: { readonly max_bytes: number; readonly folder: boolean } | null;
  readonly limits: { readonly max_upload_bytes: number; readonly max_pixels: number };
}

/** How a prompt's masks are wanted. */
export interface Wanted {
  /** The best-scored alone. */
  readonly bestOnly: boolean;
  /** Longer side of the masks, at most; null for the image's own. */
  readonly longest: number | null;
  /** Islands and holes of fewer cells of the low-res logits are removed; 0 removes none. */
  readonly specks: number;
}

export interface Prediction {
  readonly candidates: readonly Candidate[];
  /** Milliseconds from asking to having it. */
  readonly ms: number;
}

export const EMPTY_PROMPT: Prompt = { points: [], box: null, mask: null };

export function isEmpty(prompt: Prompt): boolean {
  return prompt.points.length === 0 && prompt.box === null && prompt.mask === null;
}

/**
 * How many candidates a prompt gets: three for one ambiguous point; for anything more the single
 * mask too, which the model was trained to give then, and which comes first.
 */
export function candidateCount({ points, box, mask }: Prompt): 3 | 4 {
  return points.length === 1 && box === null && mask === null ? 3 : 4;
}

/** The size of a mask of which at most `longest` pixels are asked for along the longer side. */
export function formedSize(size: Size, longest: number | null): Size {
  const most = Math.max(size.width, size.height);
  if (longest === null || longest >= most) return size;
  const side = (of: number): number => Math.max(1, Math.round((of * longest) / most));
  return { height: side(size.height), width: side(size.width) };
}

export function sameSize(a: Size, b: Size): boolean {
  return a.width === b.width && a.height === b.height;
}
