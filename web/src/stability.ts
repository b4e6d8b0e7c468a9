// Whether a single mask is to be trusted, as samtrt's decoding.py tells it, after SAM 2's decoder.

const OFFSET = Math.fround(0.05);
const LEAST = Math.fround(0.98);

/** Compare the areas above and below 0 by `OFFSET`, of low-res logits. */
export function isStable(logits: Float32Array): boolean {
  let inner = 0;
  let outer = 0;
  for (const logit of logits) {
    if (logit > -OFFSET) outer++;
    if (logit > OFFSET) inner++;
  }
  return outer === 0 || Math.fround(inner / outer) >= LEAST;
}
