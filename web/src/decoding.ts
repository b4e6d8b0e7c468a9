// Two ways to decode behind one interface: ask the server, or run the decoder here.

import type { Api } from "./api";
import type { Reply, Request } from "./messages";
import type { ModelInfo, Prediction, Prompt, Size, Wanted } from "./types";

/** An image that the server has encoded. */
export interface ImageRef {
  readonly id: string;
  readonly size: Size;
}

export interface Decoding {
  /** What to call it in the page. */
  readonly label: string;
  predict(
    image: ImageRef,
    prompt: Prompt,
    wanted: Wanted,
    signal: AbortSignal,
  ): Promise<Prediction>;
}

export class ServerDecoding implements Decoding {
  readonly label = "Each prompt is decoded by the server.";

  constructor(private readonly api: Api) {}

  async predict(
    image: ImageRef,
    prompt: Prompt,
    wanted: Wanted,
    signal: AbortSignal,
  ): Promise<Prediction> {
    const start = performance.now();
    const candidates = await this.api.masks(image.id, prompt, wanted, signal);
    return { candidates, ms: performance.now() - start };
  }
}

type WithoutId<T> = T extends unknown ? Omit<T, "id"> : never;

export class BrowserDecoding implements Decoding {
  private readonly pending = new Map<number, (reply: Reply) => void>();
  private next = 0;
  private imageId = "";

  private constructor(
    private readonly api: Api,
    private readonly worker: Worker,
    private readonly model: ModelInfo,
    private readonly replace: (model: ModelInfo) => Promise<void>,
    public label: string,
  ) {
    worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      this.pending.get(data.id)?.(data);
      this.pending.delete(data.id);
    };
    worker.onerror = (event) => {
      this.fail(event.message || "its script could not be loaded");
    };
  }

  /**
   * Load the decoder: on the GPU where the browser offers it, else as WebAssembly. `replace` is
   * called where the server turns out to have another model, whose embeddings are not for it.
   */
  static async start(
    api: Api,
    model: ModelInfo,
    replace: (model: ModelInfo) => Promise<void>,
  ): Promise<BrowserDecoding> {
    if (!model.decoder) throw new Error("This server does not give its decoder away.");
    const graph = await api.decoder(model.decoder.url);
    let note = "";
    if (await hasWebGpu()) {
      try {
        return await BrowserDecoding.open(api, model, replace, graph, "worker-webgpu.js", () => "WebGPU");
      } catch (error) {
        note = `; WebGPU failed: ${(error as Error).message}`;
        console.warn(note);
      }
    }
    return BrowserDecoding.open(
      api,
      model,
      replace,
      graph,
      "worker-wasm.js",
      (threads) => `WebAssembly, ${threads} ${threads === 1 ? "thread" : "threads"}${note}`,
    );
  }

  private static async open(
    api: Api,
    model: ModelInfo,
    replace: (model: ModelInfo) => Promise<void>,
    graph: ArrayBuffer,
    script: string,
    label: (threads: number) => string,
  ): Promise<BrowserDecoding> {
    const worker = new Worker(new URL(script, import.meta.url), { type: "module" });
    const decoding = new BrowserDecoding(api, worker, model, replace, "");
    try {
      const loaded = await decoding.call({
        kind: "load",
        graph,
        imageSize: model.image_size,
        maskSize: model.mask_size,
        threshold: model.mask_threshold,
        maps: model.maps,
        maskChoice: model.mask_choice,
        generation: model.generation,
      });
      decoding.label = label(loaded.threads ?? 1);
      return decoding;
    } catch (error) {
      worker.terminate();
      throw error;
    }
  }

  async predict(
    image: ImageRef,
    prompt: Prompt,
    wanted: Wanted,
    signal: AbortSignal,
  ): Promise<Prediction> {
    if (image.id !== this.imageId) {
      const { data, resized } = await this.api.embedding(image.id);
      const model = await this.api.model();
      if (model.decoder?.sha256 !== this.model.decoder?.sha256) {
        await this.replace(model);
        throw new Error("The server has another model now.");
      }
      await this.call({ kind: "image", embedding: data, original: image.size, resized });
      this.imageId = image.id;
    }
    signal.throwIfAborted();
    const start = performance.now();
    const reply = await this.call({ kind: "decode", prompt, wanted });
    signal.throwIfAborted();
    return { candidates: reply.candidates ?? [], ms: performance.now() - start };
  }

  /** End it; whoever waits for an answer is told. */
  stop(): void {
    this.worker.terminate();
    this.fail("it was stopped");
  }

  private fail(error: string): void {
    for (const [id, resolve] of this.pending) resolve({ id, error });
    this.pending.clear();
  }

  private async call(
    message: WithoutId<Request>,
  ): Promise<Extract<Reply, { candidates?: unknown }>> {
    const id = this.next++;
    const reply = await new Promise<Reply>((resolve) => {
      this.pending.set(id, resolve);
      this.worker.postMessage({ ...message, id });
    });
    if ("error" in reply) throw new Error(`Decoding in the browser failed: ${reply.error}`);
    return reply;
  }
}

interface GpuAdapter {
  readonly info?: { readonly isFallbackAdapter?: boolean };
}

async function hasWebGpu(): Promise<boolean> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<GpuAdapter | null> } };
  // The runtime's WebGPU build suspends WebAssembly while the GPU works.
  if (!gpu || !("Suspending" in WebAssembly)) return false;
  const adapter = await gpu.requestAdapter().catch(() => null);
  // A fallback adapter draws in software: a hundred times slower than WebAssembly.
  return adapter !== null && !adapter.info?.isFallbackAdapter;
}
