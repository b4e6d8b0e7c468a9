// Talking to the server about videos.

import { type Api, ApiError } from "./api";
import { compress, decompress } from "./rle";
import type { Box, LabelledPoint, Mask, Prompt, Size } from "./types";

export interface VideoFacts {
  readonly id: string;
  readonly name: string;
  readonly size: Size;
  /** When each frame is shown, in seconds. */
  readonly times: readonly number[];
  readonly notices: readonly string[];
  readonly prompts: readonly { readonly frame: number; readonly object: number; readonly prompt: Prompt }[];
}

/** What was found on a frame, by object. */
export interface Seen {
  readonly frame: number;
  readonly masks: ReadonlyMap<number, Mask>;
}

export interface Tracking {
  readonly start: number;
  readonly direction: "forward" | "backward";
}

interface WireVideo {
  readonly id: string;
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly times: readonly number[];
  readonly notices: readonly string[];
  readonly prompts: readonly WirePrompt[];
}

interface WirePrompt {
  readonly frame: number;
  readonly object: number;
  readonly points: readonly (readonly [number, number])[];
  readonly labels: readonly (0 | 1)[] | null;
  readonly box: readonly [number, number, number, number] | null;
}

interface WireSeen {
  readonly frame: number;
  readonly masks: readonly {
    readonly object: number;
    readonly rle: { readonly size: readonly [number, number]; readonly counts: string };
  }[];
}

const PATH = "/v1/videos";

function seen({ frame, masks }: WireSeen): Seen {
  return {
    frame,
    masks: new Map(
      masks.map(({ object, rle: { size, counts } }) => [
        object,
        { runs: decompress(counts), size: { height: size[0], width: size[1] } },
      ]),
    ),
  };
}

function facts({ id, name, width, height, times, notices, prompts }: WireVideo): VideoFacts {
  return {
    id,
    name,
    size: { width, height },
    times,
    notices,
    prompts: prompts.map(({ frame, object, points, labels, box }) => ({
      frame,
      object,
      prompt: {
        points: points.map(([x, y], i): LabelledPoint => ({ x, y, label: labels?.[i] ?? 1 })),
        box: box && boxOf(box),
        mask: null,
      },
    })),
  };
}

function boxOf([x1, y1, x2, y2]: readonly [number, number, number, number]): Box {
  return { x1, y1, x2, y2 };
}

export class VideoApi {
  constructor(private readonly api: Api) {}

  async files(): Promise<string[]> {
    return (await this.api.json<{ files: string[] }>("GET", PATH)).files;
  }

  async upload(file: Blob, name: string, signal: AbortSignal): Promise<VideoFacts> {
    const path = `${PATH}?name=${encodeURIComponent(name.slice(0, 255))}`;
    return facts(await this.api.json("POST", path, file, "application/octet-stream", signal));
  }

  async openNamed(name: string, signal: AbortSignal): Promise<VideoFacts> {
    return facts(await this.api.post(PATH, { name }, signal));
  }

  async describe(id: string): Promise<VideoFacts> {
    return facts(await this.api.json("GET", `${PATH}/${id}`));
  }

  async frame(id: string, frame: number, longest: number): Promise<Blob> {
    return (await this.api.send("GET", `${PATH}/${id}/frames/${frame}?longest_side=${longest}`)).blob();
  }

  async point(id: string, frame: number, object: number, { points, box, mask }: Prompt): Promise<Seen> {
    const body = {
      frame,
      object,
      ...(points.length && { points: points.map((p) => [p.x, p.y]), labels: points.map((p) => p.label) }),
      ...(box && { box: [box.x1, box.y1, box.x2, box.y2] }),
      ...(mask && { mask: { size: [mask.size.height, mask.size.width], counts: compress(mask.runs) } }),
    };
    return seen(await this.api.post(`${PATH}/${id}/prompts`, body));
  }

  async clear(id: string, frame: number, object: number): Promise<Seen> {
    return seen(await this.api.json("DELETE", `${PATH}/${id}/prompts/${frame}/${object}`));
  }

  async removeObject(id: string, object: number): Promise<void> {
    await this.api.send("DELETE", `${PATH}/${id}/objects/${object}`);
  }

  async stop(id: string): Promise<void> {
    await this.api.send("DELETE", `${PATH}/${id}/track`);
  }

  remove(id: string): void {
    // Only frees the server's memory early, so nobody waits for it and its failure is no news.
    this.api.send("DELETE", `${PATH}/${id}`).catch(() => undefined);
  }

  /** What was found so far. */
  async *found(id: string): AsyncGenerator<Seen> {
    for (let first: number | null = 0; first !== null; ) {
      const path: string = `${PATH}/${id}/masks?first=${first}`;
      const part = await this.api.json<{ frames: WireSeen[]; next: number | null }>("GET", path);
      for (const one of part.frames) yield seen(one);
      first = part.next;
    }
  }

  /** Masks as the server finds them. Throws where it says that it cannot go on, or the end does not come. */
  async *track(id: string, asked: Tracking, signal: AbortSignal): AsyncGenerator<Seen> {
    const body = JSON.stringify(asked);
    const response = await this.api.send("POST", `${PATH}/${id}/track`, body, "application/json", signal);
    for await (const { name, data } of events(response.body!)) {
      if (name === "masks") yield seen(data as WireSeen);
      else if (name === "done") return;
      else if (name === "error") {
        const { code, message } = (data as { error: { code: string; message: string } }).error;
        throw new ApiError(422, code, message.charAt(0).toUpperCase() + message.slice(1));
      }
    }
    throw new ApiError(0, "unreachable", "The connection broke off. What was found so far is kept.");
  }
}

/** Server-sent events of an answer. */
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<{ name: string; data: unknown }> {
  const reader = body.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>).getReader();
  let text = "";
  for (;;) {
    let part: ReadableStreamReadResult<string>;
    try {
      part = await reader.read();
    } catch (error) {
      if (error instanceof DOMException) throw error; // called off
      return;
    }
    if (part.done) return;
    text += part.value;
    const blocks = text.split("\n\n");
    text = blocks.pop()!;
    for (const block of blocks) {
      const name = /^event: (.*)$/m.exec(block)?.[1];
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (name && data) yield { name, data: JSON.parse(data) };
    }
  }
}
