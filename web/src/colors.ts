// Colours of objects: far apart from one another, and from the picture under them.

import { eachSegment } from "./rle";
import type { Mask, Size } from "./types";

const FIRST = [
  "#2f7bff", "#ff5a36", "#12b886", "#d6409f", "#f2a20c", "#7c5cff", "#00a8c6", "#84a90f",
  "#e03131", "#ffd43b", "#66d9e8", "#f783ac",
];
/** Colours that an object's is chosen from. */
const CHOICES = FIRST.length;

export function color(index: number): string {
  // The golden angle spreads what follows without ever repeating.
  return FIRST[index] ?? hslToHex((index * 137.508) % 360, 0.72, 0.52);
}

type Triple = readonly [number, number, number];

/** A small copy of the picture, to look up what lies under a mask. */
export class Backdrop {
  private readonly data: Uint8ClampedArray;
  private readonly size: Size;

  constructor(picture: ImageBitmap, longest = 160) {
    const scale = Math.min(1, longest / Math.max(picture.width, picture.height));
    const width = Math.max(1, Math.round(picture.width * scale));
    const height = Math.max(1, Math.round(picture.height * scale));
    const context = new OffscreenCanvas(width, height).getContext("2d")!;
    context.drawImage(picture, 0, 0, width, height);
    this.data = context.getImageData(0, 0, width, height).data;
    this.size = { width, height };
  }

  /** Choose a colour that stands out from the picture under the mask, and that few others have. */
  choose(mask: Mask, used: readonly number[]): number {
    const under = oklab(this.mean(mask));
    let [best, most] = [0, -Infinity];
    for (let i = 0; i < CHOICES; i++) {
      const times = used.filter((one) => one % CHOICES === i).length;
      // Nearer than about 0.25 is hard to tell apart; beyond, more is no gain.
      const apart = Math.min(distance(oklab(parse(color(i))), under), 0.25);
      const worth = 4 * apart - times - 0.01 * i;
      if (worth > most) [best, most] = [i, worth];
    }
    return best;
  }

  private mean({ runs, size }: Mask): Triple {
    const { width, height } = this.size;
    const sum = [0, 0, 0];
    let count = 0;
    const step = Math.max(1, Math.floor(size.width / width));
    eachSegment(runs, size.height, (x, top, bottom) => {
      if (x % step) return;
      const column = Math.min(width - 1, Math.floor(((x + 0.5) * width) / size.width));
      const first = Math.floor((top * height) / size.height);
      const last = Math.min(height - 1, Math.floor(((bottom - 1) * height) / size.height));
      for (let y = first; y <= last; y++, count++) {
        for (let c = 0; c < 3; c++) sum[c]! += this.data[4 * (y * width + column) + c]!;
      }
    });
    return count ? [sum[0]! / count, sum[1]! / count, sum[2]! / count] : [128, 128, 128];
  }
}

function parse(hex: string): Triple {
  const n = Number.parseInt(hex.slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
}

/** Lightness counts less: shade and light within a picture differ in it as well. */
function distance(a: Triple, b: Triple): number {
  return Math.hypot(0.4 * (a[0] - b[0]), a[1] - b[1], a[2] - b[2]);
}

/** sRGB 0..255 to OKLab (Ottosson, 2020), where distances are as the eye sees them. */
function oklab(rgb: Triple): Triple {
  const linear = (value: number): number => {
    const v = value / 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  };
  const [r, g, b] = [linear(rgb[0]), linear(rgb[1]), linear(rgb[2])];
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

function hslToHex(h: number, s: number, l: number): string {
  const part = (n: number): string => {
    const k = (n + h / 30) % 12;
    const value = l - s * Math.min(l, 1 - l) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * value)
      .toString(16)
      .padStart(2, "0");
  };
  return `#${part(0)}${part(8)}${part(4)}`;
}
