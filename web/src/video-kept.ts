// Which video is open on the server, for the next visit in this tab.

const KEY = "samtrt-video";

export interface Kept {
  readonly id: string;
  readonly names: Readonly<Record<string, string>>;
}

export function keepOpen(kept: Kept | null): void {
  if (kept) sessionStorage.setItem(KEY, JSON.stringify(kept));
  else sessionStorage.removeItem(KEY);
}

export function keptOpen(): Kept | null {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "null") as Kept | null;
  } catch {
    return null;
  }
}
