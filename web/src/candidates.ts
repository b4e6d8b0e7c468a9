// The candidates of the active object: thumbnails, cut to the object, with the model's own score.

import { color } from "./colors";
import { pathOf } from "./contours";
import type { History } from "./document";
import { byId, make } from "./dom";
import { copyFor, type Picture } from "./pictures";
import { bounds } from "./rle";
import type { Box, Candidate, Mask, Size } from "./types";

const WIDTH = 160;
const HEIGHT = 120;
/** Share of the object's size that is shown around it. */
const AROUND = 0.15;

export class Candidates {
  private picture: Picture | null = null;
  private size: Size = { width: 1, height: 1 };
  private shown: readonly unknown[] = [];
  private hue = -1;

  constructor(private readonly history: History) {}

  setImage(picture: Picture, size: Size): void {
    this.picture = picture;
    this.size = size;
    this.shown = [];
  }

  update(): void {
    const box = byId("candidates");
    const { active } = this.history;
    const candidates = active?.candidates ?? [];
    box.classList.toggle("four", candidates.length >= 4);
    box.setAttribute("aria-busy", String(active?.stale ?? false));
    if (!active || candidates.length < 2) {
      this.shown = [];
      box.removeAttribute("role");
      box.replaceChildren(make("p", { className: "hint", textContent: this.hint(candidates.length) }));
      return;
    }
    box.setAttribute("role", "radiogroup");
    // Drawing thumbnails is the costly part: only when the masks or the colour have changed.
    if (this.shown !== candidates || this.hue !== active.color) {
      this.shown = candidates;
      this.hue = active.color;
      box.replaceChildren(...candidates.map((candidate, i) => this.button(candidate, i)));
    }
    [...box.children].forEach((button, i) => {
      button.setAttribute("aria-checked", String(i === active.chosen));
    });
  }

  private hint(count: number): string {
    if (!this.picture) return "Open an image to begin.";
    const { active } = this.history;
    if (active?.stale) return "Waiting for the model…";
    if (count) return "One mask. Click on the image to refine it.";
    return "Click an object, or drag a box around it.";
  }

  private button(candidate: Candidate, i: number): HTMLButtonElement {
    const score = candidate.edited ? "yours" : candidate.score.toFixed(2);
    const button = make(
      "button",
      { id: `candidate-${i}`, className: "candidate", type: "button" },
      this.thumbnail(candidate),
      make("span", {}, make("kbd", { textContent: String(i + 1) }), score),
    );
    button.setAttribute("role", "radio");
    button.ariaLabel = candidate.edited
      ? `Candidate ${i + 1}, as painted`
      : `Candidate ${i + 1}, predicted IoU ${score}`;
    button.onclick = () => this.history.choose(i);
    return button;
  }

  private thumbnail(mask: Mask): HTMLCanvasElement {
    const canvas = make("canvas", { width: WIDTH, height: HEIGHT });
    const c = canvas.getContext("2d")!;
    const { picture, size } = this;
    if (!picture) return canvas;
    const part = cropOf(mask, size);
    const scale = WIDTH / (part.x2 - part.x1);
    c.setTransform(scale, 0, 0, scale, -part.x1 * scale, -part.y1 * scale);
    c.imageSmoothingQuality = "high";
    c.drawImage(copyFor(picture, size.width * scale), 0, 0, size.width, size.height);
    const path = pathOf(mask, size, false);
    c.fillStyle = c.strokeStyle = color(this.hue);
    c.globalAlpha = 0.45;
    c.fill(path, "evenodd");
    c.globalAlpha = 1;
    c.lineWidth = 2 / scale;
    c.stroke(path);
    return canvas;
  }
}

/** What of the image to show: the object with some of what is around it, in a thumbnail's shape. */
function cropOf(mask: Mask, image: Size): Box {
  const box = bounds(mask.runs, mask.size) ?? { x1: 0, y1: 0, x2: mask.size.width, y2: mask.size.height };
  const sx = image.width / mask.size.width;
  const sy = image.height / mask.size.height;
  const wide = (box.x2 - box.x1) * sx * (1 + 2 * AROUND);
  const high = (box.y2 - box.y1) * sy * (1 + 2 * AROUND);
  // Not so near that single pixels are all there is to see.
  const width = Math.max(wide, (high * WIDTH) / HEIGHT, 32);
  const height = (width * HEIGHT) / WIDTH;
  const x = ((box.x1 + box.x2) / 2) * sx - width / 2;
  const y = ((box.y1 + box.y2) / 2) * sy - height / 2;
  return { x1: x, y1: y, x2: x + width, y2: y + height };
}
