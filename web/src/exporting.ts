// Files to take away, of all objects or of one: masks, label maps, cut-outs, COCO, YOLO, labelme.

import { strToU8, zipSync } from "fflate";
import type { Segment } from "./document";
import { categoryOf, maskOf } from "./document";
import { greyPng } from "./png";
import { joined, polygonsOf } from "./polygons";
import { area, bounds, compress, eachSegment } from "./rle";
import type { Mask, Size } from "./types";

export type Kind = "mask" | "labels" | "cutout" | "coco" | "yolo" | "labelme";

/** An object with its mask in all pixels of the image. */
export interface Exported {
  readonly segment: Segment;
  readonly mask: Mask;
}

/** The picture that the objects are of. */
export interface Source {
  readonly name: string;
  readonly blob: Blob;
  readonly size: Size;
}

export interface Download {
  readonly name: string;
  readonly blob: Blob;
}

type Contents = Record<string, Blob | string>;

/** Write the file of a kind: a zip where it takes several. */
export async function write(
  kind: Kind,
  source: Source,
  objects: readonly Exported[],
): Promise<Download> {
  const stem = stemOf(source.name);
  switch (kind) {
    case "coco":
      return { name: `${stem}.json`, blob: cocoFile(source, objects) };
    case "yolo":
      return zipped(`${stem}-yolo.zip`, yoloFiles(source, objects));
    case "labelme":
      return zipped(`${stem}-labelme.zip`, labelmeFiles(source, objects));
    case "labels":
      return zipped(`${stem}-labels.zip`, labelFiles(source, objects));
    case "mask":
      return pictures(source, objects, kind, async ({ mask }) => maskPng(mask));
    case "cutout":
      return pictures(source, objects, kind, ({ mask }) => cutoutPng(source.blob, mask));
  }
}

/** A file of one object as it is, those of several as a zip. */
async function pictures(
  { name }: Source,
  objects: readonly Exported[],
  kind: Kind,
  draw: (one: Exported) => Promise<Blob>,
): Promise<Download> {
  const contents: Contents = {};
  for (const one of objects) {
    const file = `${stemOf(name)}-${wordsOf(one.segment.name)}-${kind}`;
    const taken = (ending: string): boolean => `${file}${ending}.png` in contents;
    let ending = "";
    for (let i = 2; taken(ending); i++) ending = `-${i}`;
    contents[`${file}${ending}.png`] = await draw(one);
  }
  const [first] = Object.entries(contents);
  if (objects.length === 1) return { name: first![0], blob: first![1] as Blob };
  return zipped(`${stemOf(name)}-${kind}s.zip`, contents);
}

async function zipped(name: string, contents: Contents): Promise<Download> {
  const files: Record<string, [Uint8Array, { level: 0 | 6 }]> = {};
  for (const [path, content] of Object.entries(contents)) {
    // Pictures are compressed already.
    files[path] = typeof content === "string"
      ? [strToU8(content), { level: 6 }]
      : [new Uint8Array(await content.arrayBuffer()), { level: 0 }];
  }
  const bytes = zipSync(files) as Uint8Array<ArrayBuffer>;
  return { name, blob: new Blob([bytes], { type: "application/zip" }) };
}

/** All objects as one COCO file; objects of the same class, or name, share a category. */
function cocoFile({ name, size }: Source, objects: readonly Exported[]): Blob {
  const names = categoriesOf(objects);
  const content = {
    info: { description: "made with samtrt" },
    images: [{ id: 1, file_name: name, width: size.width, height: size.height }],
    categories: names.map((category, i) => ({ id: i + 1, name: category })),
    annotations: objects.map(({ segment, mask }, i) => {
      const box = bounds(mask.runs, size);
      return {
        id: i + 1,
        image_id: 1,
        category_id: names.indexOf(categoryOf(segment)) + 1,
        iscrowd: 0,
        area: area(mask.runs),
        bbox: box ? [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1] : [0, 0, 0, 0],
        segmentation: { size: [size.height, size.width], counts: compress(mask.runs) },
        name: segment.name,
        ...(!maskOf(segment)!.edited && { score: maskOf(segment)!.score }),
      };
    }),
  };
  return new Blob([JSON.stringify(content)], { type: "application/json" });
}

/** As Ultralytics reads it: a line an object, the class and the corners as shares of the image. */
function yoloFiles(source: Source, objects: readonly Exported[]): Contents {
  const { name, blob, size } = source;
  const names = categoriesOf(objects);
  const lines = objects.map(({ segment, mask }) => {
    // Corners are at the centres of pixels, so that scaling and rounding down finds them again.
    const corners = joined(polygonsOf(mask)).map((value, i) =>
      ((value + 0.5) / (i % 2 ? size.height : size.width)).toFixed(6),
    );
    return corners.length ? `${names.indexOf(categoryOf(segment))} ${corners.join(" ")}\n` : "";
  });
  const classes = names.map((category, i) => `  ${i}: ${JSON.stringify(category)}\n`).join("");
  return {
    "data.yaml": `train: images\nval: images\nnc: ${names.length}\nnames:\n${classes}`,
    [`images/${name}`]: blob,
    [`labels/${stemOf(name)}.txt`]: lines.join(""),
  };
}

function labelmeFiles({ name, blob, size }: Source, objects: readonly Exported[]): Contents {
  const shapes = objects.flatMap(({ segment, mask }, number) =>
    polygonsOf(mask).map((ring) => ({
      label: categoryOf(segment),
      points: Array.from({ length: ring.length / 2 }, (_, i) => [ring[2 * i], ring[2 * i + 1]]),
      group_id: number,
      description: segment.name,
      shape_type: "polygon",
      flags: {},
      mask: null,
    })),
  );
  const document = {
    version: "5.5.0",
    flags: {},
    shapes,
    imagePath: name,
    imageData: null,
    imageHeight: size.height,
    imageWidth: size.width,
  };
  return { [`${stemOf(name)}.json`]: JSON.stringify(document, null, 1), [name]: blob };
}

/** Pixels that say which object they are of; small objects lie on large ones. */
function labelFiles({ name, size }: Source, objects: readonly Exported[]): Contents {
  const bits = objects.length > 255 ? 16 : 8;
  const order = objects.map((_, i) => i);
  order.sort((a, b) => area(objects[b]!.mask.runs) - area(objects[a]!.mask.runs));
  const png = greyPng(size.width, size.height, bits, (rows, stride) => {
    for (const i of order) {
      const value = i + 1;
      eachSegment(objects[i]!.mask.runs, size.height, (x, top, bottom) => {
        for (let y = top; y < bottom; y++) {
          const at = y * stride + 1 + (x * bits) / 8;
          if (bits === 16) rows[at] = value >> 8;
          rows[at + (bits === 16 ? 1 : 0)] = value & 255;
        }
      });
    }
  });
  const legend = Object.fromEntries(
    objects.map(({ segment }, i) => [i + 1, { name: segment.name, class: segment.label || null }]),
  );
  return { [`${stemOf(name)}-labels.png`]: png, "labels.json": JSON.stringify(legend, null, 1) };
}

/** White where the object is, black elsewhere, at the image's size. */
function maskPng({ runs, size }: Mask): Blob {
  return greyPng(size.width, size.height, 8, (rows, stride) => {
    eachSegment(runs, size.height, (x, top, bottom) => {
      for (let y = top; y < bottom; y++) rows[y * stride + 1 + x] = 255;
    });
  });
}

/** The object alone on transparent ground, cut to its bounding box. */
async function cutoutPng(picture: Blob, { runs, size }: Mask): Promise<Blob> {
  const box = bounds(runs, size);
  if (!box) throw new Error("The mask is empty: there is nothing to cut out.");
  const width = box.x2 - box.x1;
  const height = box.y2 - box.y1;
  const bitmap = await createImageBitmap(picture, box.x1, box.y1, width, height);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (!context) throw new Error("The browser has no room for a picture of this size.");
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

function categoriesOf(objects: readonly Exported[]): string[] {
  return [...new Set(objects.map(({ segment }) => categoryOf(segment)))];
}

/** The image's name without its ending. */
function stemOf(name: string): string {
  return name.replace(/\.[^.]+$/, "") || "image";
}

function wordsOf(name: string): string {
  return name.trim().replace(/[^\p{L}\p{N}]+/gu, "-").toLowerCase();
}
