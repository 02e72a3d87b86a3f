// A grid that draws only what is on screen, of any length.
import { useVirtualizer } from '@tanstack/react-virtual';
import {
  useEffect,
  useImperativeHandle,
  useLayoutEffect,
  type HTMLAttributes,
  type ReactNode,
  type Ref,
} from 'react';

import { cx } from '@/lib/cx';
import { useSize } from '@/lib/hooks';

export interface GridHandle {
  /** Brings an item into view. */
  show(index: number): void;
  columns: number;
}

interface VirtualGridProps extends Omit<HTMLAttributes<HTMLDivElement>, 'children'> {
  total: number;
  /** Smallest width of an item in pixels. */
  itemSize: number;
  /** Height of what is below each picture. */
  footer?: number;
  gap?: number;
  padding?: number;
  onRange(first: number, last: number): void;
  /** Draws one item into its square. */
  item(index: number): ReactNode;
  handle?: Ref<GridHandle>;
}

export function gridColumns(width: number, itemSize: number, gap: number): number {
  return Math.max(1, Math.floor((width + gap) / (itemSize + gap)));
}

export function VirtualGrid({
  total,
  itemSize,
  footer = 0,
  gap = 8,
  padding = 16,
  onRange,
  item,
  handle,
  className,
  ...props
}: VirtualGridProps) {
  const [ref, { width }] = useSize<HTMLDivElement>();
  const inner = Math.max(0, width - padding * 2);
  // Never fewer than two beside each other, so that a phone shows more than one picture.
  const columns = gridColumns(inner, Math.min(itemSize, (inner - gap) / 2), gap);
  const side = Math.floor((inner - gap * (columns - 1)) / columns);
  const rows = Math.ceil(total / columns);
  const rowHeight = side + footer + gap;

  const virtualizer = useVirtualizer({
    count: rows,
    getScrollElement: () => ref.current,
    estimateSize: () => rowHeight,
    overscan: 3,
    paddingStart: padding,
    paddingEnd: padding,
  });
  useLayoutEffect(() => virtualizer.measure(), [virtualizer, rowHeight]);

  const visible = virtualizer.getVirtualItems();
  const first = (visible[0]?.index ?? 0) * columns;
  const last = Math.min(Math.max(0, total - 1), ((visible.at(-1)?.index ?? 0) + 1) * columns - 1);
  useEffect(() => onRange(first, Math.max(first, last)), [first, last, onRange]);

  useImperativeHandle(
    handle,
    () => ({
      columns,
      show: (index) => virtualizer.scrollToIndex(Math.floor(index / columns), { align: 'auto' }),
    }),
    [columns, virtualizer],
  );

  return (
    <div ref={ref} className={cx('h-full overflow-y-auto outline-none', className)} {...props}>
      <div
        role="presentation"
        style={{ height: width ? virtualizer.getTotalSize() : 0, position: 'relative' }}
      >
        {width > 0 &&
          visible.map((row) => (
            <div
              key={row.key}
              role="presentation"
              className="absolute grid"
              style={{
                top: 0,
                left: padding,
                width: inner,
                gap,
                gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))`,
                transform: `translateY(${row.start}px)`,
              }}
            >
              {Array.from({ length: columns }, (_, column) => {
                const index = row.index * columns + column;
                return index < total ? (
                  <div key={index} role="presentation" style={{ height: side + footer }}>
                    {item(index)}
                  </div>
                ) : null;
              })}
            </div>
          ))}
      </div>
    </div>
  );
}
