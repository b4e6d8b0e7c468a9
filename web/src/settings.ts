// Controls whose values are kept for the next visit.

import { byId } from "./dom";

/** Give a control the value that it had, and tell of it now and whenever it changes. */
export function remember(id: string, changed: (input: HTMLInputElement) => void): void {
  const input = byId<HTMLInputElement>(id);
  const key = `samtrt-${id}`;
  const kept = localStorage.getItem(key);
  const isBox = input.type === "checkbox";
  if (kept !== null && isBox) input.checked = kept === "true";
  else if (kept !== null) input.value = kept;
  input.addEventListener("input", () => {
    localStorage.setItem(key, isBox ? String(input.checked) : input.value);
    changed(input);
  });
  changed(input);
}
