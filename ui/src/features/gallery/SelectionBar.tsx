// What can be done with the pictures that are selected.
import { Clapperboard, Download, Sparkles, Trash2, Undo2 } from 'lucide-react';

import { Button } from '@/components/ui/Button';
import { plural } from '@/lib/format';

export function SelectionBar({
  count,
  isTrash,
  canMove,
  hasDrafts,
  onAnimate,
  onMakeFull,
  onRestore,
  onDownload,
  onRemove,
  onClear,
}: {
  count: number;
  isTrash: boolean;
  /** Whether some of them can be set in motion. */
  canMove: boolean;
  /** Whether some of them are drafts. */
  hasDrafts: boolean;
  onAnimate(): void;
  onMakeFull(): void;
  onRestore(): void;
  onDownload(): void;
  /** To the trash; from there for good. */
  onRemove(): void;
  onClear(): void;
}) {
  const bin = <Trash2 size={15} aria-hidden="true" />;
  return (
    <div
      role="toolbar"
      aria-label="Selected pictures"
      className="bg-panel border-line animate-rise flex min-h-14 flex-wrap items-center gap-2 border-t px-4 py-2"
    >
      <span className="tnum mr-auto font-medium">{plural(count, 'picture')} selected</span>
      {isTrash ? (
        <>
          <Button size="sm" icon={<Undo2 size={15} aria-hidden="true" />} onClick={onRestore}>
            Restore
          </Button>
          <Button size="sm" variant="danger" icon={bin} onClick={onRemove}>
            Delete for good
          </Button>
        </>
      ) : (
        <>
          {hasDrafts && (
            <Button
              size="sm"
              variant="primary"
              icon={<Sparkles size={15} aria-hidden="true" />}
              onClick={onMakeFull}
            >
              {count === 1 ? 'Make the draft full' : 'Make drafts full'}
            </Button>
          )}
          {canMove && (
            <Button
              size="sm"
              icon={<Clapperboard size={15} aria-hidden="true" />}
              onClick={onAnimate}
            >
              {count === 1 ? 'Make it move' : 'Make them move'}
            </Button>
          )}
          <Button size="sm" icon={<Download size={15} aria-hidden="true" />} onClick={onDownload}>
            Download
          </Button>
          <Button size="sm" icon={bin} onClick={onRemove}>
            To the trash
          </Button>
        </>
      )}
      <Button size="sm" variant="ghost" onClick={onClear}>
        Clear selection
      </Button>
    </div>
  );
}
