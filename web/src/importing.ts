// COCO files that come in again: their masks as objects of the open image.

import { decompress, fromColumns } from "./rle";
import type { Candidate, Runs, Size } from "./types";

export interface Imported {
  /** Empty where the file has none. */
  readonly name: string;
  /** The class; empty where the category is only the object's name. */
  readonly label: string;
  readonly mask: Candidate;
}

interface CocoImage {
  readonly id: number;
  readonly file_name?: string;
  readonly width?: number;
  readonly height?: number;
}

interface CocoAnnotation {
  readonly image_id: number;
  readonly category_id?: number;
  readonly name?: string;
  readonly score?: number;
  readonly segmentation?: unknown;
}

/** Read the masks that a COCO file has of an image. Throws with what is wrong with it. */
export async function readCoco(file: Blob, name: string, size: Size): Promise<Imported[]> {
  const content = parse(await file.text());
  const image = imageOf(content.images, name, size);
  const categories = new Map(content.categories.map((c) => [c.id, c.name]));
  const mine = content.annotations.filter((one) => one.image_id === image.id);
  if (!mine.length) throw new Error(`The COCO file has no annotations of ${name}.`);
  return mine.map((one, i) => {
    const runs = readMask(one.segmentation, size, i);
    const category = categories.get(one.category_id ?? -1) ?? "";
    return {
      name: one.name ?? "",
      label: category === one.name ? "" : category,
      mask: { runs, size, score: one.score ?? 1, edited: one.score === undefined },
    };
  });
}

function parse(text: string): {
  images: CocoImage[];
  annotations: CocoAnnotation[];
  categories: { id: number; name: string }[];
} {
  let content: Record<string, unknown> | null = null;
  try {
    content = JSON.parse(text) as Record<string, unknown> | null;
  } catch {
    // told below
  }
  const { images, annotations, categories = [] } = content ?? {};
  if (!Array.isArray(images) || !Array.isArray(annotations) || !Array.isArray(categories)) {
    throw new Error("This is not a COCO file: it has no lists of images and annotations.");
  }
  return { images, annotations, categories };
}

/** The entry of the open image: the one of its name, or the only one. */
function imageOf(images: readonly CocoImage[], name: string, size: Size): CocoImage {
  const base = (path = ""): string => path.split(/[\\/]/).at(-1)!;
  const named = images.filter((image) => base(image.file_name) === base(name));
  const image = named[0] ?? (images.length === 1 ? images[0] : undefined);
  if (!image) throw new Error(`The COCO file has ${images.length} images and none called ${name}.`);
  const { width = size.width, height = size.height } = image;
  if (width !== size.width || height !== size.height) {
    throw new Error(
      `The COCO file is of an image of ${width} × ${height}, and ${name} has ${size.width} × ${size.height}.`,
    );
  }
  return image;
}

function readMask(segmentation: unknown, size: Size, number: number): Runs {
  const wrong = (why: string): Error => new Error(`Annotation ${number + 1} of the COCO file ${why}.`);
  if (Array.isArray(segmentation) && segmentation.length) {
    return fill(segmentation as number[][], size);
  }
  const { counts, size: sides } = (segmentation ?? {}) as { counts?: unknown; size?: unknown };
  if (Array.isArray(sides) && (sides[0] !== size.height || sides[1] !== size.width)) {
    throw wrong("has a mask of another size");
  }
  const runs = typeof counts === "string"
    ? decompress(counts)
    : Array.isArray(counts) ? Uint32Array.from(counts as number[]) : null;
  if (!runs) throw wrong("has no mask: neither polygons nor run lengths");
  const pixels = runs.reduce((sum, run) => sum + run, 0);
  if (pixels !== size.width * size.height) throw wrong("has run lengths of another size");
  return runs;
}

/** Fill polygons of corners x, y, x, y, …, in image pixels. */
function fill(polygons: readonly (readonly number[])[], { width, height }: Size): Runs {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("The browser has no room for a picture of this size.");
  for (const corners of polygons) {
    context.beginPath();
    for (let i = 0; i + 1 < corners.length; i += 2) context.lineTo(corners[i]!, corners[i + 1]!);
    context.fill();
  }
  const { data } = context.getImageData(0, 0, width, height);
  const columns = new Uint8Array(width * height);
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) columns[x * height + y] = data[4 * (y * width + x) + 3]! > 127 ? 1 : 0;
  }
  return fromColumns(columns);
}
