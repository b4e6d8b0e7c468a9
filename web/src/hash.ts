// What an image is known by: its bytes.

/** A name for the content of a file: its SHA-256, or where the page is not secure, a simpler sum. */
export async function contentHash(file: Blob): Promise<string> {
  const bytes = await file.arrayBuffer();
  // Browsers keep cryptography from pages that came over plain http from another machine.
  if (!globalThis.crypto?.subtle) return `${sum64(new Uint8Array(bytes))}-${bytes.byteLength}`;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Two FNV-1a sums of 32 bits with different beginnings: enough to tell a user's own images apart. */
function sum64(bytes: Uint8Array): string {
  let [a, b] = [0x811c9dc5, 0x01234567];
  for (const byte of bytes) {
    a = Math.imul(a ^ byte, 0x01000193);
    b = Math.imul(b ^ byte, 0x01000193) ^ (b >>> 15);
  }
  return [a, b].map((n) => (n >>> 0).toString(16).padStart(8, "0")).join("");
}
