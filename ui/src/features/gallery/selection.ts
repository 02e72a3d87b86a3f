// Which pictures are selected, and how keys and clicks change that.

export interface Selection {
  /** Ids, in the order they were selected. */
  ids: ReadonlySet<string>;
  /** The picture that the keys move from. */
  active: number;
  /** Where a range began. */
  anchor: number;
}

export const noSelection: Selection = { ids: new Set(), active: 0, anchor: 0 };

export function toggle(selection: Selection, id: string, index: number): Selection {
  const ids = new Set(selection.ids);
  if (!ids.delete(id)) ids.add(id);
  return { ids, active: index, anchor: index };
}

/** Adds everything between the anchor and `index`; ids that are not loaded are left out. */
export function selectRange(
  selection: Selection,
  index: number,
  idAt: (index: number) => string | undefined,
): Selection {
  const ids = new Set(selection.ids);
  const from = Math.min(selection.anchor, index);
  const to = Math.max(selection.anchor, index);
  for (let at = from; at <= to; at += 1) {
    const id = idAt(at);
    if (id) ids.add(id);
  }
  return { ids, active: index, anchor: selection.anchor };
}

/** Where a key leads from a place in a grid; `null` when it is not a key that moves. */
export function moveByKey(
  key: string,
  active: number,
  columns: number,
  total: number,
  page: number,
): number | null {
  const clamp = (index: number) => Math.min(total - 1, Math.max(0, index));
  switch (key) {
    case 'ArrowRight':
      return clamp(active + 1);
    case 'ArrowLeft':
      return clamp(active - 1);
    case 'ArrowDown':
      return active + columns < total ? active + columns : clamp(active);
    case 'ArrowUp':
      return active - columns >= 0 ? active - columns : clamp(active);
    case 'PageDown':
      return clamp(active + page);
    case 'PageUp':
      return clamp(active - page);
    case 'Home':
      return 0;
    case 'End':
      return clamp(total - 1);
    default:
      return null;
  }
}
