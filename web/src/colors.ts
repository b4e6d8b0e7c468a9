// Colours of objects: far apart in hue, alike in lightness, the first ones chosen by hand.

const FIRST = ["#2f7bff", "#ff5a36", "#12b886", "#d6409f", "#f2a20c", "#7c5cff", "#00a8c6", "#84a90f"];

export function color(index: number): string {
  // The golden angle spreads what follows without ever repeating.
  return FIRST[index] ?? hslToHex((index * 137.508) % 360, 0.72, 0.52);
}

export function rgb(hex: string): [number, number, number] {
  const n = Number.parseInt(hex.slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
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
