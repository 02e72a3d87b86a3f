// Seeds: whole numbers from 0 to 2⁶⁴ − 1, kept as text where a JSON number would lose digits.

const LARGEST = 2n ** 64n - 1n;

/** A seed from what was typed: `null` when empty, `undefined` when it is none. */
export function readSeed(text: string): number | string | null | undefined {
  const digits = text.trim();
  if (!digits) return null;
  if (!/^\d{1,20}$/.test(digits)) return undefined;
  const value = BigInt(digits);
  if (value > LARGEST) return undefined;
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
}

/** A seed that other programs can take as well: 32 bits. */
export function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}
