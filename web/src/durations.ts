// How long things took, for the eye and for the next time.

import type { ModelInfo } from "./types";

const ENCODE_KEY = "samtrt-encode-ms";

export function milliseconds(ms: number): string {
  return `${ms < 100 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

function nameOf(model: ModelInfo | null): string {
  return model ? `${model.checkpoint} ${model.precision} ${model.backend} ${model.device}` : "";
}

/** Keep how long encoding took: pictures all become one size for a model. */
export function keepEncoding(model: ModelInfo | null, ms: number): void {
  localStorage.setItem(ENCODE_KEY, JSON.stringify({ model: nameOf(model), ms }));
}

/** How long encoding took the last time with this model, where that is worth telling. */
export function expectedEncoding(model: ModelInfo | null): number | null {
  try {
    const last = JSON.parse(localStorage.getItem(ENCODE_KEY) ?? "") as { model: string; ms: number };
    return last.model === nameOf(model) && last.ms > 2000 ? last.ms : null;
  } catch {
    return null;
  }
}
