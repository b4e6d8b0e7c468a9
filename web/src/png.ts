// PNG files of one channel, grey or with a palette, which browsers cannot write by themselves.

import { zlibSync } from "fflate";

/**
 * Write grey pixels as a PNG of 8 or 16 bits.
 *
 * `fill` is given the rows, each with a byte before it that stays 0 (PNG's filter type), and how
 * many bytes a row has.
 */
export function greyPng(
  width: number,
  height: number,
  bits: 8 | 16,
  fill: (rows: Uint8Array, stride: number) => void,
): Blob {
  return png(width, height, bits, GREY, [], fill);
}

/** Write pixels of 8 bits whose colours are in a palette, three bytes each; `fill` as of `greyPng`. */
export function palettePng(
  width: number,
  height: number,
  palette: Uint8Array,
  fill: (rows: Uint8Array, stride: number) => void,
): Blob {
  return png(width, height, 8, PALETTE, [chunk("PLTE", palette)], fill);
}

/** PNG's colour types. */
const [GREY, PALETTE] = [0, 3];

function png(
  width: number,
  height: number,
  bits: 8 | 16,
  kind: number,
  further: readonly Uint8Array[],
  fill: (rows: Uint8Array, stride: number) => void,
): Blob {
  const stride = 1 + (width * bits) / 8;
  const rows = new Uint8Array(stride * height);
  fill(rows, stride);
  const head = new DataView(new ArrayBuffer(13)); // what is not set is 0
  head.setUint32(0, width);
  head.setUint32(4, height);
  head.setUint8(8, bits);
  head.setUint8(9, kind);
  const parts = [
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    chunk("IHDR", new Uint8Array(head.buffer)),
    ...further,
    chunk("IDAT", zlibSync(rows, { level: 4 })),
    chunk("IEND", new Uint8Array(0)),
  ];
  return new Blob(parts as BlobPart[], { type: "image/png" });
}

function chunk(kind: string, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(12 + data.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) out[4 + i] = kind.charCodeAt(i);
  out.set(data, 8);
  view.setUint32(8 + data.length, crc32(out.subarray(4, 8 + data.length)));
  return out;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(data: Uint8Array): number {
  let sum = 0xffffffff;
  for (const byte of data) sum = TABLE[(sum ^ byte) & 255]! ^ (sum >>> 8);
  return ~sum >>> 0;
}
