// Frames, seconds and how both are written. A frame is shown from its own time up to the next one's.

export interface Rate {
  numerator: number;
  denominator: number;
}

export const perSecond = (rate: Rate) => rate.numerator / Math.max(1, rate.denominator);

/** The frame that is on screen at a time, counted from zero. */
export function frameAt(seconds: number, rate: Rate, frames: number): number {
  // Containers round times, to milliseconds in WebM: a frame begins a little before its time.
  const frame = Math.floor(seconds * perSecond(rate) + 0.05);
  return Math.min(Math.max(0, frames - 1), Math.max(0, frame));
}

/** Where to seek to for a frame: its middle, so that no rounding shows a neighbour. */
export function seekTime(frame: number, rate: Rate): number {
  return (frame + 0.5) / perSecond(rate);
}

/** `0:05`, `1:02:03`: as on a tile. */
export function formatLength(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value: number) => String(value).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** `0:05.06`: with hundredths, as in the player. */
export function formatTime(seconds: number): string {
  const hundredths = Math.max(0, Math.floor(seconds * 100 + 1e-6));
  const rest = String(hundredths % 100).padStart(2, '0');
  return `${formatLength(Math.floor(hundredths / 100))}.${rest}`;
}

/** The length in words, for screen readers: `5 seconds`, `1 minute 2 seconds`. */
export function spellLength(seconds: number): string {
  const whole = Math.max(1, Math.round(seconds));
  const part = (count: number, word: string) => `${count} ${word}${count === 1 ? '' : 's'}`;
  const [minutes, rest] = [Math.floor(whole / 60), whole % 60];
  if (!minutes) return part(rest, 'second');
  return rest ? `${part(minutes, 'minute')} ${part(rest, 'second')}` : part(minutes, 'minute');
}
