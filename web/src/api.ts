// Talking to the server. Every failure is an ApiError whose message can be shown.

import { compress, decompress } from "./rle";
import type { Candidate, Found, Mask, ModelInfo, Prompt, Size, Wanted } from "./types";
import { candidateCount } from "./types";

const TOKEN_KEY = "samtrt-token";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }

  /** Whether the same request may be answered another time: not where it is itself at fault. */
  get mayPass(): boolean {
    return this.status < 400 || this.status >= 500 || [401, 408, 429].includes(this.status);
  }

  /** The server no longer has the image (or was started again): uploading it again helps. */
  get imageIsGone(): boolean {
    return this.status === 410 || this.code === "image_unknown";
  }
}

export interface Uploaded {
  readonly id: string;
  readonly width: number;
  readonly height: number;
  readonly encode_ms: number;
}

interface WireMask {
  readonly score: number;
  readonly rle: WireRle;
}

interface WireRle {
  readonly size: readonly [height: number, width: number];
  readonly counts: string;
}

interface WireFound extends WireMask {
  /** Null where the mask is empty. */
  readonly stability_score: number | null;
  readonly bbox: readonly [x: number, y: number, width: number, height: number];
  readonly point: readonly [x: number, y: number];
}

function candidate({ score, rle }: WireMask): Candidate {
  const [height, width] = rle.size;
  return { score, runs: decompress(rle.counts), size: { height, width } };
}

function found(mask: WireFound): Found {
  const [left, top, width, height] = mask.bbox;
  const [x, y] = mask.point;
  return {
    ...candidate(mask),
    stability: mask.stability_score ?? 0,
    // Of the last pixels, as the official generator has it.
    box: { x1: left, y1: top, x2: left + width - 1, y2: top + height - 1 },
    point: { x, y },
  };
}

function wireMask({ runs, size }: Mask): WireRle {
  return { size: [size.height, size.width], counts: compress(runs) };
}

export class Api {
  /** Asked for a token when the server wants one; null when the user declines. */
  askToken: (wrong: boolean) => Promise<string | null> = async () => null;

  model(): Promise<ModelInfo> {
    return this.json("GET", "/v1/model");
  }

  upload(image: Blob, signal?: AbortSignal): Promise<Uploaded> {
    return this.json("POST", "/v1/images", image, image.type || "application/octet-stream", signal);
  }

  async masks(
    imageId: string,
    prompt: Prompt,
    { bestOnly, longest, specks }: Wanted,
    signal?: AbortSignal,
  ): Promise<Candidate[]> {
    const { points, box, mask } = prompt;
    const body = {
      prompts: [
        {
          ...(points.length && {
            points: points.map((p) => [p.x, p.y]),
            labels: points.map((p) => p.label),
          }),
          ...(box && { box: [box.x1, box.y1, box.x2, box.y2] }),
          ...(mask && { mask: wireMask(mask) }),
        },
      ],
      candidates: candidateCount(prompt),
      best_only: bestOnly,
      longest_side: longest,
      specks,
    };
    const path = `/v1/images/${imageId}/masks`;
    const answer = await this.post<{ results: { masks: WireMask[] }[] }>(path, body, signal);
    return answer.results[0]!.masks.map(candidate);
  }

  /** Ask for all masks of a grid of points, good or not: the page filters them itself. */
  async auto(
    imageId: string,
    pointsPerSide: number,
    { longest, specks }: Omit<Wanted, "bestOnly">,
    signal: AbortSignal,
  ): Promise<Found[]> {
    const body = {
      points_per_side: pointsPerSide,
      pred_iou_thresh: 0,
      stability_score_thresh: 0,
      box_nms_thresh: 1,
      longest_side: longest,
      specks,
    };
    const path = `/v1/images/${imageId}/auto`;
    const answer = await this.post<{ masks: WireFound[] }>(path, body, signal);
    return answer.masks.map(found).filter((mask) => mask.runs.length > 1);
  }

  async embedding(
    imageId: string,
  ): Promise<{ data: ArrayBuffer; resized: Size }> {
    const response = await this.send("GET", `/v1/images/${imageId}/embedding?dtype=float16`);
    const numbers = (name: string) => response.headers.get(name)!.split(",").map(Number);
    const [height, width] = numbers("X-Input-Size");
    return {
      data: await response.arrayBuffer(),
      resized: { height: height!, width: width! },
    };
  }

  async decoder(url: string): Promise<ArrayBuffer> {
    return (await this.send("GET", url)).arrayBuffer();
  }

  remove(imageId: string): void {
    // Only frees the server's memory early, so nobody waits for it and its failure is no news.
    this.send("DELETE", `/v1/images/${imageId}`).catch(() => undefined);
  }

  post<T>(path: string, body: object, signal?: AbortSignal): Promise<T> {
    return this.json("POST", path, JSON.stringify(body), "application/json", signal);
  }

  async json<T>(
    method: string,
    path: string,
    body?: BodyInit,
    type?: string,
    signal?: AbortSignal,
  ): Promise<T> {
    return (await this.send(method, path, body, type, signal)).json() as Promise<T>;
  }

  async send(
    method: string,
    path: string,
    body?: BodyInit,
    type?: string,
    signal?: AbortSignal,
  ): Promise<Response> {
    for (;;) {
      const token = sessionStorage.getItem(TOKEN_KEY);
      const headers = new Headers();
      if (type) headers.set("Content-Type", type);
      if (token) headers.set("Authorization", `Bearer ${token}`);
      let response: Response;
      try {
        response = await fetch(path, { method, headers, body: body ?? null, signal: signal ?? null });
      } catch (error) {
        if (signal?.aborted) throw error;
        throw new ApiError(0, "unreachable", "The server cannot be reached. Is it running?");
      }
      if (response.ok) return response;
      const failure = await readFailure(response);
      if (failure.status !== 401) throw failure;
      const given = await this.askToken(token !== null);
      if (given === null) throw failure;
      sessionStorage.setItem(TOKEN_KEY, given);
    }
  }
}

async function readFailure(response: Response): Promise<ApiError> {
  const wait = Number(response.headers.get("Retry-After")) || null;
  try {
    const { error } = (await response.json()) as { error: { code: string; message: string } };
    const message = error.message.charAt(0).toUpperCase() + error.message.slice(1);
    return new ApiError(response.status, error.code, message, wait);
  } catch {
    return new ApiError(response.status, "error", `The server answered ${response.status}.`, wait);
  }
}
