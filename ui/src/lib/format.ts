// Numbers and dates as people read them.

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB'] as const;

/** Bytes with one digit after the point where that says something: `2.1 GB`, `830 KB`. */
export function formatBytes(bytes: number): string {
  let value = Math.max(0, bytes);
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit >= 2 && value < 100 ? 1 : 0;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** Two amounts of bytes in the unit of the second: `2.1 of 22 GB`. */
export function formatBytesOf(part: number, whole: number): string {
  const unit = Math.min(
    UNITS.length - 1,
    Math.max(0, Math.floor(Math.log10(Math.max(1, whole)) / 3)),
  );
  const scale = 1000 ** unit;
  const digits = (value: number) => (value < 100 && unit >= 2 ? 1 : 0);
  const show = (value: number) => (value / scale).toFixed(digits(value / scale));
  return `${show(part).replace(/\.0$/, '')} of ${show(whole).replace(/\.0$/, '')} ${UNITS[unit]}`;
}

/** A span of time: `0.8 s`, `42 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return '–';
  if (seconds < 9.95) return `${seconds.toFixed(1).replace(/\.0$/, '')} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) {
    const rest = whole % 60;
    return `${Math.floor(whole / 60)} min${rest ? ` ${String(rest).padStart(2, '0')} s` : ''}`;
  }
  const minutes = Math.round(whole / 60);
  if (minutes < 60 * 24) {
    const rest = minutes % 60;
    return `${Math.floor(minutes / 60)} h${rest ? ` ${rest} min` : ''}`;
  }
  const hours = Math.round(minutes / 60);
  const rest = hours % 24;
  return `${Math.floor(hours / 24)} d${rest ? ` ${rest} h` : ''}`;
}

export function formatMilliseconds(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : formatDuration(ms / 1000);
}

const counts = new Intl.NumberFormat('en');

/** `100,000`. */
export function formatCount(count: number): string {
  return counts.format(count);
}

/** `1 picture`, `3 pictures`. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

export function formatPercent(fraction: number): string {
  return `${Math.round(Math.min(1, Math.max(0, fraction)) * 100)}%`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const dayYear = new Intl.DateTimeFormat(undefined, {
  day: 'numeric',
  month: 'short',
  year: 'numeric',
});
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });

/** When it was, as short as it can be told from `now`: `just now`, `5 min ago`, `14:02`, `3 Mar`. */
export function formatWhen(at: number, now = Date.now()): string {
  const minutes = (now - at) / 60_000;
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${Math.floor(minutes)} min ago`;
  const then = new Date(at);
  const today = new Date(now);
  if (then.toDateString() === today.toDateString()) return clock.format(then);
  if (then.getFullYear() === today.getFullYear()) return day.format(then);
  return dayYear.format(then);
}

export function formatDate(at: number): string {
  return full.format(new Date(at));
}

/** `16:9` for a size that is one of the usual ratios within 2 %, else the reduced fraction or ''. */
export function ratioLabel(width: number, height: number): string {
  const usual: [number, number][] = [
    [1, 1],
    [16, 9],
    [9, 16],
    [4, 3],
    [3, 4],
    [3, 2],
    [2, 3],
    [5, 4],
    [4, 5],
    [21, 9],
    [9, 21],
    [2, 1],
    [1, 2],
    [8, 5],
    [5, 8],
    [5, 3],
    [3, 5],
  ];
  const ratio = width / height;
  let best: [number, number] | undefined;
  let bestOff = 0.02;
  for (const [w, h] of usual) {
    const off = Math.abs(ratio / (w / h) - 1);
    if (off < bestOff) {
      best = [w, h];
      bestOff = off;
    }
  }
  return best ? `${best[0]}:${best[1]}` : '';
}

/** Samplers and schedules whose names are no plain words. */
const SAMPLING: Record<string, string> = {
  dpmpp_2m: 'DPM++ 2M',
  dpmpp_2m_sde: 'DPM++ 2M SDE',
  dpmpp_3m_sde: 'DPM++ 3M SDE',
  dpmpp_sde: 'DPM++ SDE',
  ddim: 'DDIM',
  ddpm: 'DDPM',
  pndm: 'PNDM',
  unipc: 'UniPC',
  lms: 'LMS',
  lcm: 'LCM',
  tcd: 'TCD',
  sgm_uniform: 'SGM uniform',
};

/** A sampler or a schedule as people call it: `DPM++ 2M`, `Flow match`. */
export const samplingName = (code: string): string => SAMPLING[code] ?? titleCase(code);

/** Words of a code such as `out_of_memory`, as a heading: `Out of memory`. */
export function titleCase(code: string): string {
  const words = code.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A number as it was typed: the server computes in single precision, where 0.6 is 0.60000002. */
export function asTyped(value: number): number {
  return Number.isInteger(value) ? value : Number(value.toPrecision(7));
}
