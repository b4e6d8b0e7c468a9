// The decoder in a worker: one ONNX session, one image, prompts in, candidates out.

import type { InferenceSession, Tensor } from "onnxruntime-web";
import { maskInput, promptInputs } from "./frame";
import type { DecodeMessage, ImageMessage, LoadMessage, Reply, Request } from "./messages";
import type { Candidate, Size } from "./types";
import { candidateCount, formedSize } from "./types";
import { removeSpecks } from "./specks";
import { isStable } from "./stability";
import { runsFromLogits } from "./upscale";

declare const ORT_VERSION: string;

/** The part of onnxruntime-web that is used; both of its builds have it. */
export interface Ort {
  readonly env: {
    readonly wasm: { wasmPaths?: unknown; numThreads?: number };
    logLevel?: string;
  };
  readonly InferenceSession: {
    create(graph: ArrayBuffer, options: object): Promise<InferenceSession>;
  };
  readonly Tensor: new (type: "float32", data: Float32Array, dims: readonly number[]) => Tensor;
}

export function serve(ort: Ort, provider: "wasm" | "webgpu", build: string): void {
  const base = new URL(`ort/${ORT_VERSION}/`, self.location.href).href;
  ort.env.wasm.wasmPaths = { mjs: `${base}${build}.mjs`, wasm: `${base}${build}.wasm` };
  // Without isolation (plain http from another machine) there is no memory for threads to share.
  const threads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";

  let model: LoadMessage;
  let session: InferenceSession;
  let image: { maps: Record<string, Tensor>; original: Size; resized: Size };

  async function load(message: LoadMessage): Promise<void> {
    model = message;
    session = await ort.InferenceSession.create(message.graph, { executionProviders: [provider] });
  }

  function setImage(message: ImageMessage): void {
    const numbers = fromHalf(message.embedding);
    const maps: Record<string, Tensor> = {};
    let start = 0;
    for (const { name, shape } of model.maps) {
      const stop = start + shape.reduce((product, size) => product * size);
      maps[name] = new ort.Tensor("float32", numbers.subarray(start, stop), [1, ...shape]);
      start = stop;
    }
    image = { maps, original: message.original, resized: message.resized };
  }

  async function decode(message: DecodeMessage): Promise<Candidate[]> {
    const { maskSize, generation, threshold } = model;
    const { wanted, prompt } = message;
    const inputs = promptInputs(prompt, image.original, image.resized, generation);
    const plane = maskSize * maskSize;
    const start = prompt.mask && maskInput(prompt.mask, image.resized, model.imageSize, maskSize);
    const size = formedSize(image.original, wanted.longest);
    const out = await session.run({
      ...image.maps,
      point_coords: new ort.Tensor("float32", inputs.coords, [1, inputs.count, 2]),
      point_labels: new ort.Tensor("float32", inputs.labels, [1, inputs.count]),
      mask_input: new ort.Tensor("float32", start ?? new Float32Array(plane), [
        1,
        1,
        maskSize,
        maskSize,
      ]),
      has_mask_input: new ort.Tensor("float32", Float32Array.of(start ? 1 : 0), [1]),
    });
    const logits = (await out["low_res_masks"]!.getData()) as Float32Array;
    const scores = (await out["iou_predictions"]!.getData()) as Float32Array;
    // The decoder gives four masks: the single one, then the three for an ambiguous prompt.
    const best = (of: number[]) => of.reduce((one, i) => (scores[i]! > scores[one]! ? i : one));
    const three = [1, 2, 3];
    const several = model.maskChoice === "best" ? [best(three)] : three;
    let chosen = several;
    if (candidateCount(prompt) !== 3) {
      const replaced = model.maskChoice === "stable" && !isStable(logits.subarray(0, plane));
      const single = replaced ? best(three) : 0;
      chosen = [single, ...[0, ...several].filter((i) => i !== single)];
    }
    if (wanted.bestOnly) chosen = [best(chosen)];
    // SAM 2's logits go to the image at once: through a square of their own size.
    const square = generation === "sam2" ? maskSize : model.imageSize;
    const inSquare = generation === "sam2" ? { height: maskSize, width: maskSize } : image.resized;
    const cells = (length: number): number => Math.ceil((length * maskSize) / square);
    const shown = { height: cells(inSquare.height), width: cells(inSquare.width) };
    return chosen.map((i) => {
      const low = logits.subarray(i * plane, (i + 1) * plane);
      if (wanted.specks) removeSpecks(low, maskSize, shown, threshold, wanted.specks);
      const runs = runsFromLogits(low, maskSize, square, inSquare, size, threshold);
      return { score: scores[i]!, size, runs };
    });
  }

  async function answer(request: Request): Promise<Reply> {
    switch (request.kind) {
      case "load":
        await load(request);
        return { id: request.id, threads };
      case "image":
        setImage(request);
        return { id: request.id };
      case "decode":
        return { id: request.id, candidates: await decode(request) };
    }
  }

  // One at a time: a session cannot run twice at once.
  let last: Promise<void> = Promise.resolve();
  self.onmessage = ({ data }: MessageEvent<Request>) => {
    last = last
      .then(() => answer(data))
      .catch((error: unknown) => ({ id: data.id, error: String(error) }))
      .then((reply) => self.postMessage(reply));
  };
}

/** IEEE half precision to single. */
function fromHalf(buffer: ArrayBuffer): Float32Array {
  const halves = new Uint16Array(buffer);
  const out = new Float32Array(halves.length);
  const bits = new Uint32Array(out.buffer);
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i]!;
    const sign = (half & 0x8000) << 16;
    const exponent = (half >> 10) & 31;
    const fraction = half & 0x3ff;
    if (exponent === 0) {
      out[i] = (sign ? -1 : 1) * fraction * 2 ** -24;
    } else {
      bits[i] = sign | ((exponent + 112) << 23) | (fraction << 13);
    }
  }
  return out;
}
