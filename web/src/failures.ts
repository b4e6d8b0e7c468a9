// What went wrong and is not put right yet. One "Retry" does all of it again.

import { ApiError } from "./api";
import { toast } from "./dom";

export class Failures {
  private readonly open = new Map<string, () => void>();
  private readonly told = new Map<string, () => void>();

  /** Tell of a failure, with a way to try again where that can help. */
  add(what: string, error: unknown, retry?: () => void): void {
    // What was called off is no failure; why it was is told where it happened.
    if (error instanceof DOMException && error.name === "AbortError") return;
    const helps = retry && (!(error instanceof ApiError) || error.mayPass);
    if (helps) this.open.set(what, retry);
    const action = helps ? { label: "Retry", run: () => this.retry() } : undefined;
    this.told.get(what)?.();
    this.told.set(what, toast(messageOf(error), "error", action));
  }

  /** What had failed is done: nothing is left to tell or to retry. */
  passed(what: string): void {
    this.open.delete(what);
    this.told.get(what)?.();
    this.told.delete(what);
  }

  /** Another image is open: what failed on the one before is no matter any more. */
  clear(): void {
    for (const what of [...this.told.keys()]) this.passed(what);
  }

  private retry(): void {
    const all = [...this.open.values()];
    this.clear();
    for (const run of all) run();
  }
}

export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Each browser has its own words for it.
  const missing = error instanceof TypeError && /module/i.test(error.message);
  return missing ? "A part of this page cannot be loaded. Is the server running?" : error.message;
}
