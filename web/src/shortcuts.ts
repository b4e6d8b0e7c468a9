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
  /** Give the active object a class, by its number from 0. */
  label(index: number): void;
  /** To the next image (1) or the one before (-1); false where there is but one. */
  step(by: number): boolean;
  showImages(): void;
  /** Make the brush larger or smaller by a factor. */
  resizeBrush(factor: number): void;
  /** By a factor; 0 fits the image. */
  zoom(factor: number): void;
  /** Of a video: to another frame, play, track; false where none is open. */
  frame(by: number): boolean;
  play(): boolean;
  track(direction: "forward" | "backward"): boolean;
}

const TOOLS: Record<string, Tool> = { a: "add", r: "remove", x: "box", v: "pan", p: "brush", e: "erase" };

export function addShortcuts(actions: Actions): void {
  window.addEventListener("keydown", (event) => {
    const target = event.target as Element;
    if (event.defaultPrevented || target.closest("dialog, input:not([type=checkbox], [type=range]), select")) return;
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
  const digit = /^Digit([1-9])$/.exec(event.code);
  if (tool) actions.chooseTool(tool);
  else if (event.shiftKey && digit) actions.label(Number(digit[1]) - 1);
  else if (/^[1-5]$/.test(key)) actions.candidate(Number(key) - 1);
  else if (key === "n" || key === "escape") actions.add();
  else if (key === "pagedown" || key === "pageup") return actions.step(key === "pagedown" ? 1 : -1);
  else if (key === "g") actions.showImages();
  else if (key === "," || key === ".") return actions.frame(key === "." ? 1 : -1);
  else if (key === "k") return actions.play();
  else if (key === "t") return actions.track(event.shiftKey ? "backward" : "forward");
  else if (key === "[") actions.resizeBrush(1 / 1.25);
  else if (key === "]") actions.resizeBrush(1.25);
  else if (key === "delete" || key === "backspace") actions.remove();
  else if (key === "+" || key === "=") actions.zoom(1.4);
  else if (key === "-") actions.zoom(1 / 1.4);
  else if (key === "0") actions.zoom(0);
  else if (key === "?") byId<HTMLDialogElement>("shortcuts").showModal();
  else return false;
  return true;
}
