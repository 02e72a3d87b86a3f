// A mask as what was done to it, in order: replayed onto a canvas of the picture's own size, so that
// every step can be taken back without keeping copies of the canvas.
//
// While it is painted, the canvas is transparent where the picture stays and opaque where it is
// painted anew; files of masks are black and white.

export interface Point {
  x: number;
  y: number;
}

export type MaskStep =
  | { kind: 'stroke'; isErasing: boolean; size: number; points: Point[] }
  | { kind: 'invert' }
  | { kind: 'clear' };

/** Whether nothing can be covered after these steps; erasing alone never uncovers the last pixel. */
export function isBlank(steps: MaskStep[], hasBase: boolean): boolean {
  return steps.reduce((blank, step) => {
    if (step.kind === 'clear') return true;
    return blank && (step.kind === 'stroke' ? step.isErasing : false);
  }, !hasBase);
}

/** The tint that covered parts have in the painter; any opaque colour means the same. */
const TINT = '#ff2e63';

export function drawStep(context: CanvasRenderingContext2D, step: MaskStep): void {
  const { width, height } = context.canvas;
  if (step.kind === 'clear') {
    context.clearRect(0, 0, width, height);
    return;
  }
  context.save();
  context.fillStyle = context.strokeStyle = TINT;
  if (step.kind === 'invert') {
    // Both covered: neither. One covered: it.
    context.globalCompositeOperation = 'xor';
    context.fillRect(0, 0, width, height);
  } else {
    context.globalCompositeOperation = step.isErasing ? 'destination-out' : 'source-over';
    const first = step.points[0];
    if (first && step.points.length === 1) {
      context.beginPath();
      context.arc(first.x, first.y, step.size / 2, 0, 2 * Math.PI);
      context.fill();
    } else if (first) {
      context.lineWidth = step.size;
      context.lineCap = context.lineJoin = 'round';
      context.beginPath();
      context.moveTo(first.x, first.y);
      for (const { x, y } of step.points.slice(1)) context.lineTo(x, y);
      context.stroke();
    }
  }
  context.restore();
}

/** Draws a mask anew: the one it began with, then every step. */
export function replay(
  context: CanvasRenderingContext2D,
  base: CanvasImageSource | null,
  steps: MaskStep[],
): void {
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  if (base) context.drawImage(base, 0, 0);
  for (const step of steps) drawStep(context, step);
}

/** A canvas of that size. */
function canvasOf(width: number, height: number): CanvasRenderingContext2D | null {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  return canvas.getContext('2d');
}

/** A mask's file, black and white, as the painter holds it. Null: it cannot be read here. */
export async function readMask(
  url: string,
  width: number,
  height: number,
): Promise<HTMLCanvasElement | null> {
  const image = new Image();
  // The desktop window's pictures come from another origin; unasked, the canvas could not be read.
  image.crossOrigin = 'anonymous';
  image.src = url;
  try {
    await image.decode();
    const context = canvasOf(width, height);
    if (!context) return null;
    context.drawImage(image, 0, 0, width, height);
    const pixels = context.getImageData(0, 0, width, height);
    const { data } = pixels;
    for (let at = 0; at < data.length; at += 4) data[at + 3] = data[at]!;
    context.putImageData(pixels, 0, 0);
    context.globalCompositeOperation = 'source-in';
    context.fillStyle = TINT;
    context.fillRect(0, 0, width, height);
    return context.canvas;
  } catch {
    return null;
  }
}

/** The painted mask as a file: white where the picture is painted anew, black where it stays. */
export async function writeMask(painted: HTMLCanvasElement): Promise<File> {
  const { width, height } = painted;
  const context = canvasOf(width, height);
  if (!context) throw new Error('This browser cannot draw the mask.');
  context.drawImage(painted, 0, 0);
  context.globalCompositeOperation = 'source-in';
  context.fillStyle = '#fff';
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = 'destination-over';
  context.fillStyle = '#000';
  context.fillRect(0, 0, width, height);
  const blob = await new Promise<Blob | null>((resolve) =>
    context.canvas.toBlob(resolve, 'image/png'),
  );
  if (!blob) throw new Error('This browser cannot write the mask as a PNG.');
  return new File([blob], 'mask.png', { type: 'image/png' });
}
