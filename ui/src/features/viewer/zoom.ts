// Looking closer: scale and offset of a picture in its frame.

export interface View {
  /** 1: fits the frame. */
  scale: number;
  /** Offset of the picture's centre from the frame's, in pixels of the screen. */
  x: number;
  y: number;
}

export const fitted: View = { scale: 1, x: 0, y: 0 };

const LARGEST = 16;

/** Scales by `factor` so that the point under the pointer (from the frame's centre) stays there. */
export function zoomAt(view: View, factor: number, at: { x: number; y: number }): View {
  const scale = Math.min(LARGEST, Math.max(1, view.scale * factor));
  if (scale === 1) return fitted;
  const ratio = scale / view.scale;
  return { scale, x: at.x - (at.x - view.x) * ratio, y: at.y - (at.y - view.y) * ratio };
}

/** The scale at which one pixel of the picture is one of the screen. */
export function actualScale(
  picture: { width: number; height: number },
  frame: { width: number; height: number },
  pixelRatio: number,
): number {
  const fit = Math.min(frame.width / picture.width, frame.height / picture.height);
  return fit > 0 ? 1 / (fit * pixelRatio) : 1;
}
