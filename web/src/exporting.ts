// Files to take away: a mask, a cut-out, all objects as COCO.

import type { Doc, Segment } from "./document";
import { maskOf } from "./document";
import { area, bounds, compress, eachSegment } from "./rle";
import type { Runs, Size } from "./types";

export function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** The image's name without its ending, with an object's name behind it. */
export function fileName(image: string, part: string, ending: string): string {
  const stem = image.replace(/\.[^.]+$/, "") || "image";
  const tail = part ? `-${part.trim().replace(/[^\p{L}\p{N}]+/gu, "-").toLowerCase()}` : "";
  return `${stem}${tail}.${ending}`;
}

/** All objects with masks as one COCO file; objects of the same name share a category. */
export function cocoFile(doc: Doc, name: string, size: Size): Blob {
  const segments = doc.segments.filter(maskOf);
  const names = [...new Set(segments.map((s) => s.name))];
  const content = {
    info: { description: "made with samtrt" },
    images: [{ id: 1, file_name: name, width: size.width, height: size.height }],
    categories: names.map((category, i) => ({ id: i + 1, name: category })),
    annotations: segments.map((segment, i) => annotation(segment, i + 1, names, size)),
  };
  return new Blob([JSON.stringify(content)], { type: "application/json" });
}

function annotation(segment: Segment, id: number, names: string[], size: Size): object {
  const { runs, score } = maskOf(segment)!;
  const box = bounds(runs, size);
  return {
    id,
    image_id: 1,
    category_id: names.indexOf(segment.name) + 1,
    iscrowd: 0,
    area: area(runs),
    bbox: box ? [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1] : [0, 0, 0, 0],
    segmentation: { size: [size.height, size.width], counts: compress(runs) },
    score,
  };
}

/** White where the object is, black elsewhere, at the image's size. */
export async function maskPng(runs: Runs, size: Size): Promise<Blob> {
  const [canvas, context] = newCanvas(size.width, size.height);
  const image = context.createImageData(size.width, size.height);
  new Uint32Array(image.data.buffer).fill(0xff000000);
  eachPixel(runs, size, (i) => image.data.fill(255, 4 * i, 4 * i + 3));
  context.putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

/** The object alone on transparent ground, cut to its bounding box. */
export async function cutoutPng(picture: Blob, runs: Runs, size: Size): Promise<Blob> {
  const box = bounds(runs, size);
  if (!box) throw new Error("The mask is empty: there is nothing to cut out.");
  const width = box.x2 - box.x1;
  const height = box.y2 - box.y1;
  const bitmap = await createImageBitmap(picture, box.x1, box.y1, width, height);
  const [canvas, context] = newCanvas(width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const image = context.getImageData(0, 0, width, height);
  const inside = new Uint8Array(width * height);
  eachSegment(runs, size.height, (x, top, bottom) => {
    for (let y = top; y < bottom; y++) inside[(y - box.y1) * width + x - box.x1] = 1;
  });
  for (let i = 0; i < inside.length; i++) if (!inside[i]) image.data[4 * i + 3] = 0;
  context.putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

function eachPixel(runs: Runs, size: Size, visit: (index: number) => void): void {
  eachSegment(runs, size.height, (x, top, bottom) => {
    for (let y = top; y < bottom; y++) visit(y * size.width + x);
  });
}

function newCanvas(
  width: number,
  height: number,
): [OffscreenCanvas, OffscreenCanvasRenderingContext2D] {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (!context) throw new Error("The browser has no room for a picture of this size.");
  return [canvas, context];
}
