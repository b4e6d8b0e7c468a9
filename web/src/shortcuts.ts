// Keys that work wherever the focus is, but for fields that take text and open dialogs.

import { byId } from "./dom";
import type { Tool } from "./input";

export interface Actions {
  chooseTool(tool: Tool): void;
  undo(): void;
  redo(): void;
  candidate(index: number): void;
  add(): void;
  remove(): void;
  clearPrompt(): void;
  /** By a factor; 0 fits the image. */
  zoom(factor: number): void;
}

const TOOLS: Record<string, Tool> = { a: "add", r: "remove", x: "box", v: "pan" };

export function addShortcuts(actions: Actions): void {
  window.addEventListener("keydown", (event) => {
    const target = event.target as Element;
    if (event.defaultPrevented || target.closest("dialog, input:not([type=checkbox]), select")) return;
    if (handle(event, actions)) event.preventDefault();
  });
}

function handle(event: KeyboardEvent, actions: Actions): boolean {
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") event.shiftKey ? actions.redo() : actions.undo();
    else if (key === "y") actions.redo();
    else return false;
    return true;
  }
  if (event.altKey) return false;
  const tool = TOOLS[key];
  if (tool) actions.chooseTool(tool);
  else if (/^[1-4]$/.test(key)) actions.candidate(Number(key) - 1);
  else if (key === "n") actions.add();
  else if (key === "delete" || key === "backspace") actions.remove();
  else if (key === "escape") actions.clearPrompt();
  else if (key === "+" || key === "=") actions.zoom(1.4);
  else if (key === "-") actions.zoom(1 / 1.4);
  else if (key === "0") actions.zoom(0);
  else if (key === "?") byId<HTMLDialogElement>("shortcuts").showModal();
  else return false;
  return true;
}
