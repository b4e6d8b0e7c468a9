// Image files: which of them can be sent, and drawing them.

/** Longest side of the picture that is drawn; the server and exports have all pixels. */
const DRAWN = 4096;

/** Longest side of the copy that is drawn where the picture is seen whole: scaling takes long. */
const SMALL = 1600;

export interface Picture {
  /** What is sent: the file, or a PNG of it where the server does not read its format. */
  readonly blob: Blob;
  readonly bitmap: ImageBitmap;
  /** A smaller copy; the same where the picture is small. */
  readonly small: ImageBitmap;
  readonly width: number;
  readonly height: number;
}

/** How files begin that the server reads and browsers show. */
const SENT = [
  /^\xff\xd8\xff/, // JPEG
  /^\x89PNG\r\n/,
  /^GIF8/,
  /^BM/,
  /^RIFF[^]{4}WEBP/,
];
const TIFF = /^(II[*+]\0|MM\0[*+])/;

/**
 * Read an image file: upright, and drawn no larger than a screen needs. A format that browsers show
 * and the server does not read (AVIF, SVG) becomes PNG.
 *
 * Throws where the browser cannot show it.
 */
export async function readPicture(file: Blob): Promise<Picture> {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 16).arrayBuffer()));
  if (TIFF.test(head)) {
    throw new Error("Browsers cannot show TIFF images. Convert it to PNG or JPEG and open that.");
  }
  if (!head) throw new Error("This file is empty.");
  let full: ImageBitmap;
  try {
    full = await createImageBitmap(file);
  } catch {
    const known = SENT.some((pattern) => pattern.test(head));
    throw new Error(
      known
        ? "This image is damaged or truncated: the browser cannot read it."
        : "This is not an image of a format that the browser knows. Open a JPEG, PNG, WebP, BMP or GIF.",
    );
  }
  const { width, height } = full;
  const blob = SENT.some((pattern) => pattern.test(head)) ? file : await asPng(full);
  const bitmap = await atMost(full, DRAWN);
  const small = await atMost(bitmap, SMALL);
  if (bitmap !== full) full.close();
  return { blob, width, height, bitmap, small };
}

/** Of two copies of a picture, the smaller where that has the pixels for a width on the screen. */
export function copyFor({ bitmap, small }: Picture, width: number): ImageBitmap {
  return width <= 1.2 * small.width ? small : bitmap;
}

export function closePicture({ bitmap, small }: Picture): void {
  bitmap.close();
  small.close();
}

async function asPng(bitmap: ImageBitmap): Promise<Blob> {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d")!.drawImage(bitmap, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

/** The picture, or a copy of it with no more than so many pixels along the longer side. */
async function atMost(picture: ImageBitmap, most: number): Promise<ImageBitmap> {
  const longest = Math.max(picture.width, picture.height);
  if (longest <= most) return picture;
  return createImageBitmap(picture, {
    resizeWidth: Math.max(1, Math.round((picture.width * most) / longest)),
    resizeHeight: Math.max(1, Math.round((picture.height * most) / longest)),
    resizeQuality: "high",
  });
}
