// A video's masks as files: YouTube-VIS as one JSON, DAVIS as a zip of PNGs.

import { zipSync } from "fflate";
import { color } from "./colors";
import type { Film, FilmObject } from "./film";
import { palettePng } from "./png";
import { area, bounds, compress, eachSegment } from "./rle";
import type { Mask, Size } from "./types";
import type { VideoFacts } from "./video-api";

export type VideoKind = "youtube-vis" | "davis";

export interface VideoDownload {
  readonly name: string;
  readonly blob: Blob;
}

export async function writeVideo(kind: VideoKind, facts: VideoFacts, film: Film): Promise<VideoDownload> {
  const stem = stemOf(facts.name);
  if (kind === "youtube-vis") return { name: `${stem}.json`, blob: youtubeVis(stem, facts, film) };
  return { name: `${stem}-davis.zip`, blob: await davis(stem, facts.size, film) };
}

/** A video's name without its ending, as the name of a folder in a zip: it must not lead out of that. */
function stemOf(name: string): string {
  const stem = name.replace(/\.[^.]+$/, "").replace(/[\\/]/g, "_");
  return /^\.*$/.test(stem) ? "video" : stem;
}

function fileName(frame: number): string {
  return `${String(frame).padStart(5, "0")}.png`;
}

/** As `samtrt track` writes it: of each object a mask a frame, or null. */
function youtubeVis(name: string, { size, times }: VideoFacts, film: Film): Blob {
  const common = { height: size.height, width: size.width, length: times.length };
  const annotations = [...film.objects.values()].map((object, i) => {
    const masks = times.map((_, frame) => {
      const mask = film.masks.get(frame)?.get(object.id);
      return mask && area(mask.runs) ? mask : null;
    });
    return {
      id: i + 1,
      video_id: 1,
      category_id: 1,
      object: object.id,
      name: object.name,
      iscrowd: 0,
      ...common,
      segmentations: masks.map((mask) => mask && { size: [size.height, size.width], counts: compress(mask.runs) }),
      bboxes: masks.map((mask) => mask && boxOf(mask)),
      areas: masks.map((mask) => mask && area(mask.runs)),
    };
  });
  const document = {
    info: { description: "made with samtrt" },
    videos: [{ id: 1, name, ...common, file_names: times.map((_, frame) => fileName(frame)) }],
    categories: [{ id: 1, name: "object", supercategory: "" }],
    annotations,
  };
  return new Blob([JSON.stringify(document)], { type: "application/json" });
}

function boxOf({ runs, size }: Mask): number[] {
  const { x1, y1, x2, y2 } = bounds(runs, size)!;
  return [x1, y1, x2 - x1, y2 - y1];
}

/** Pictures whose values are the objects' ids; small objects lie on large ones. */
async function davis(name: string, size: Size, film: Film): Promise<Blob> {
  const objects = [...film.objects.values()];
  const palette = new Uint8Array(3 * 256);
  for (const { id, color: hue } of objects) {
    const value = Number.parseInt(color(hue).slice(1), 16);
    palette.set([value >> 16, (value >> 8) & 255, value & 255], 3 * id);
  }
  const files: Record<string, [Uint8Array, { level: 0 }]> = {};
  for (const frame of [...film.masks.keys()].sort((a, b) => a - b)) {
    const picture = labels(film.masks.get(frame)!, objects, size, palette);
    const bytes = new Uint8Array(await picture.arrayBuffer()); // lets the page breathe, too
    files[`Annotations/${name}/${fileName(frame)}`] = [bytes, { level: 0 }];
  }
  return new Blob([zipSync(files) as Uint8Array<ArrayBuffer>], { type: "application/zip" });
}

function labels(
  masks: ReadonlyMap<number, Mask>,
  objects: readonly FilmObject[],
  size: Size,
  palette: Uint8Array,
): Blob {
  const found = objects.filter(({ id }) => masks.has(id)).map(({ id }) => ({ id, runs: masks.get(id)!.runs }));
  found.sort((a, b) => area(b.runs) - area(a.runs));
  return palettePng(size.width, size.height, palette, (rows, stride) => {
    for (const { id, runs } of found) {
      eachSegment(runs, size.height, (x, top, bottom) => {
        for (let y = top; y < bottom; y++) rows[y * stride + 1 + x] = id;
      });
    }
  });
}
