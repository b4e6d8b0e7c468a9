// The line at the foot of the picture that says what a click would do now.

import type { History } from "./document";
import { byId } from "./dom";
import type { View } from "./view";

export function showTip({ active, doc }: History, view: View): void {
  const { tool } = document.body.dataset;
  const picked = view.picked !== null && active !== null;
  byId("tip-text").textContent = picked
    ? "Point: drag it, or"
    : tool === "brush" || tool === "erase"
      ? brushTip(tool, active?.name ?? null)
      : active
        ? `Clicks refine ${active.name} ·`
        : doc.segments.length
          ? "Click a mask to select it, or something new"
          : "Click an object, or drag a box around it";
  byId("tip-point").hidden = !picked;
  byId("tip-new").hidden = picked || !active;
}

function brushTip(tool: string, name: string | null): string {
  if (tool === "brush") return name ? `Paint onto ${name} ·` : "Paint a new object";
  return name ? `Paint off ${name} ·` : "Select the object to erase from";
}
