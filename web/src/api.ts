// Talking to the server. Every failure is an ApiError whose message can be shown.

import { decompress } from "./rle";
import type { Candidate, ModelInfo, Prompt, Size } from "./types";
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
  readonly rle: { readonly counts: string };
}

function candidate(mask: WireMask): Candidate {
  return { score: mask.score, runs: decompress(mask.rle.counts) };
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
    bestOnly: boolean,
    signal?: AbortSignal,
  ): Promise<Candidate[]> {
    const { points, box } = prompt;
    const body = {
      prompts: [
        {
          ...(points.length && {
            points: points.map((p) => [p.x, p.y]),
            labels: points.map((p) => p.label),
          }),
          ...(box && { box: [box.x1, box.y1, box.x2, box.y2] }),
        },
      ],
      candidates: candidateCount(prompt),
      best_only: bestOnly,
    };
    const path = `/v1/images/${imageId}/masks`;
    const answer = await this.json<{ results: { masks: WireMask[] }[] }>(
      "POST",
      path,
      JSON.stringify(body),
      "application/json",
      signal,
    );
    return answer.results[0]!.masks.map(candidate);
  }

  async auto(imageId: string, pointsPerSide: number, signal: AbortSignal): Promise<Candidate[]> {
    const body = JSON.stringify({ points_per_side: pointsPerSide });
    const path = `/v1/images/${imageId}/auto`;
    const answer = await this.json<{ masks: WireMask[] }>(
      "POST",
      path,
      body,
      "application/json",
      signal,
    );
    return answer.masks.map(candidate);
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

  private async json<T>(
    method: string,
    path: string,
    body?: BodyInit,
    type?: string,
    signal?: AbortSignal,
  ): Promise<T> {
    return (await this.send(method, path, body, type, signal)).json() as Promise<T>;
  }

  private async send(
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
