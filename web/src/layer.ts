// A transparent picture of masks, kept at a size that screens can use, whatever the image's.

import { rgb } from "./colors";
import { eachSegment } from "./rle";
import type { Runs, Size } from "./types";

const LONGEST = 2048;
const FILL = 0.42;

export interface Paint {
  readonly runs: Runs;
  readonly color: string;
}

export class MaskLayer {
  constructor(private readonly longest = LONGEST) {}

  readonly canvas = document.createElement("canvas");
  private readonly context = this.canvas.getContext("2d")!;
  private size: Size = { height: 1, width: 1 };
  private scale = 1;
  private labels = new Uint16Array(1);

  resize(size: Size): void {
    this.size = size;
    this.scale = Math.min(1, this.longest / Math.max(size.width, size.height));
    this.canvas.width = Math.max(1, Math.round(size.width * this.scale));
    this.canvas.height = Math.max(1, Math.round(size.height * this.scale));
    this.labels = new Uint16Array(this.canvas.width * this.canvas.height);
  }

  clear(): void {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Show these masks and nothing else; later ones lie on top. */
  show(paints: readonly Paint[]): void {
    if (!paints.length) {
      this.clear();
      return;
    }
    this.labels.fill(0);
    paints.forEach((paint, i) => this.stamp(paint.runs, i + 1));
    this.context.putImageData(this.colored(paints.map((paint) => rgb(paint.color))), 0, 0);
  }

  private stamp(runs: Runs, label: number): void {
    const { width, height } = this.canvas;
    // Which columns of the layer sample each column of the image.
    const first = (x: number): number => Math.ceil(x * (width / this.size.width) - 0.5);
    const row = (y: number): number => Math.ceil(y * (height / this.size.height) - 0.5);
    eachSegment(runs, this.size.height, (x, top, bottom) => {
      for (let column = first(x), stop = first(x + 1); column < stop; column++) {
        const end = row(bottom);
        for (let y = row(top); y < end; y++) this.labels[y * width + column] = label;
      }
    });
  }

  private colored(colors: readonly (readonly [number, number, number])[]): ImageData {
    const { width, height } = this.canvas;
    const image = new ImageData(width, height);
    const { labels } = this;
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const label = labels[i]!;
        if (!label) continue;
        const edge =
          x === 0 ||
          y === 0 ||
          x === width - 1 ||
          y === height - 1 ||
          labels[i - 1] !== label ||
          labels[i + 1] !== label ||
          labels[i - width] !== label ||
          labels[i + width] !== label;
        const [r, g, b] = colors[label - 1]!;
        image.data[4 * i] = r;
        image.data[4 * i + 1] = g;
        image.data[4 * i + 2] = b;
        image.data[4 * i + 3] = edge ? 255 : 255 * FILL;
      }
    }
    return image;
  }
}
