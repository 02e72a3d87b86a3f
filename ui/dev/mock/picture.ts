// Flat landscapes as SVG, one per seed: stand-ins for pictures while looking at pages.

function random(seed: number): () => number {
  let state = (seed ^ 0x9e3779b9) >>> 0;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x6d2b79f5) >>> 0;
    state ^= state >>> 12;
    return ((state >>> 0) % 100_000) / 100_000;
  };
}

const SKIES = [
  ['#f7b267', '#f4845f', '#7b2d4a'],
  ['#a8dadc', '#457b9d', '#1d3557'],
  ['#ffd6a5', '#ff9e80', '#5e548e'],
  ['#0b132b', '#1c2541', '#3a506b'],
  ['#cdeac0', '#7cb69d', '#2f5d62'],
  ['#fde2e4', '#cdb4db', '#6d6875'],
  ['#ffe8b6', '#e0a458', '#6f4518'],
  ['#d9ed92', '#52b69a', '#184e77'],
];

/** A landscape; `sharpness` from 0 to 1 blurs it as a preview in the making. */
export function paint(seed: number, width: number, height: number, sharpness = 1): string {
  const next = random(seed);
  const [light, middle, deep] = SKIES[Math.floor(next() * SKIES.length)]!;
  const sunX = width * (0.2 + next() * 0.6);
  const sunY = height * (0.2 + next() * 0.25);
  const layers: string[] = [];
  for (let layer = 0; layer < 4; layer += 1) {
    const base = height * (0.48 + layer * 0.14);
    const rise = height * (0.2 - layer * 0.035);
    const points: string[] = [];
    const count = 5 + Math.floor(next() * 4);
    for (let i = 0; i <= count; i += 1) {
      points.push(
        `${((width * i) / count).toFixed(1)},${(base - rise * next() + rise * 0.3).toFixed(1)}`,
      );
    }
    layers.push(
      `<polygon points="0,${height} ${points.join(' ')} ${width},${height}" fill="${deep}" opacity="${0.28 + layer * 0.22}"/>`,
    );
  }
  const blur = (1 - sharpness) * Math.min(width, height) * 0.09;
  const filter =
    blur > 0.5 ? `<filter id="b"><feGaussianBlur stdDeviation="${blur.toFixed(1)}"/></filter>` : '';
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">` +
    `<defs><linearGradient id="s" x2="0" y2="1"><stop stop-color="${middle}"/><stop offset=".7" stop-color="${light}"/></linearGradient>${filter}</defs>` +
    `<g${filter ? ' filter="url(#b)"' : ''}><rect width="${width}" height="${height}" fill="url(#s)"/>` +
    `<circle cx="${sunX.toFixed(1)}" cy="${sunY.toFixed(1)}" r="${(height * 0.08).toFixed(1)}" fill="#fff6dd" opacity=".9"/>` +
    `${layers.join('')}</g></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
