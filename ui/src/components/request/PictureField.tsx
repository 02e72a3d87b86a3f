// A picture of a request: dropped, chosen as a file, or taken from the stage.
import { ImageUp, MonitorUp, X } from 'lucide-react';
import { useId, useRef, useState, type ReactNode } from 'react';

import { pictureUrl } from '@/api/media';
import { keepPicture } from '@/components/take-picture';
import { Button, IconButton } from '@/components/ui/Button';
import { Messages, type FieldMessages } from '@/components/ui/Field';
import { cx } from '@/lib/cx';
import { DROP_ATTRIBUTE, fileHoverStore } from '@/lib/drag';
import { useStore } from '@/lib/store';

export interface PictureSize {
  width: number;
  height: number;
}

interface PictureFieldProps extends FieldMessages {
  label: string;
  /** The member of the request, which drops on the field go to. */
  member: string;
  value: string | null;
  /** The result on the stage, as a reference; null: there is none. */
  staged: string | null;
  hint?: string;
  onValue(reference: string | null): void;
  /** More that can be done with the picture, once it is there. */
  actions?: (size: PictureSize) => ReactNode;
}

export function PictureField({
  label,
  member,
  value,
  staged,
  hint,
  onValue,
  actions,
  problems = [],
  notes = [],
}: PictureFieldProps) {
  const id = useId();
  const chooser = useRef<HTMLInputElement>(null);
  const choose = useRef<HTMLButtonElement>(null);
  const isHovered = useStore(fileHoverStore);
  const [isBusy, setBusy] = useState(false);
  const [seen, setSeen] = useState<PictureSize & { of: string }>();
  const [lost, setLost] = useState<string | null>(null);
  const size = seen && seen.of === value ? seen : undefined;

  const take = async (file: File | undefined) => {
    if (!file) return;
    setBusy(true);
    const kept = await keepPicture(file);
    setBusy(false);
    if (kept) onValue(kept.reference);
  };

  return (
    <div
      role="group"
      aria-labelledby={`${id}-label`}
      aria-describedby={`${id}-about`}
      className="flex min-w-0 flex-col gap-1.5"
    >
      <span id={`${id}-label`} className="text-ink-2 text-sm font-medium">
        {label}
      </span>
      <div
        {...{ [DROP_ATTRIBUTE]: member }}
        className={cx(
          'bg-field relative flex min-w-0 items-center gap-3 rounded-md border p-2',
          value === null && 'border-dashed',
          isHovered ? 'border-lamp bg-lamp-wash z-[70]' : 'border-edge/60',
          problems.length > 0 && 'border-bad',
        )}
      >
        {value === null ? (
          <div className="flex min-w-0 flex-1 flex-col gap-2">
            <p className="text-ink-3 text-xs">Drop a picture here, or</p>
            <div className="flex flex-wrap gap-2">
              <Button
                ref={choose}
                size="sm"
                isBusy={isBusy}
                icon={<ImageUp size={15} aria-hidden="true" />}
                aria-describedby={`${id}-label`}
                onClick={() => chooser.current?.click()}
              >
                Choose a file
              </Button>
              <Button
                size="sm"
                disabled={staged === null}
                icon={<MonitorUp size={15} aria-hidden="true" />}
                aria-describedby={`${id}-label`}
                onClick={() => staged !== null && onValue(staged)}
              >
                Use the one on the stage
              </Button>
            </div>
          </div>
        ) : (
          <>
            <div className="bg-canvas grid size-18 shrink-0 place-items-center overflow-hidden rounded-sm">
              {lost === value ? (
                <span className="text-bad px-1 text-center text-xs">Not here any more</span>
              ) : (
                <img
                  src={pictureUrl(value)}
                  alt={label}
                  draggable={false}
                  className="size-full object-contain"
                  onError={() => setLost(value)}
                  onLoad={({ currentTarget: image }) =>
                    setSeen({ width: image.naturalWidth, height: image.naturalHeight, of: value })
                  }
                />
              )}
            </div>
            <div className="flex min-w-0 flex-1 flex-col items-start gap-1.5">
              <div className="flex w-full items-center gap-1.5">
                <p className="text-ink-2 tnum min-w-0 flex-1 text-xs">
                  {size ? `${size.width} × ${size.height} pixels` : '\u00a0'}
                </p>
                <IconButton
                  size="sm"
                  label="Choose another file"
                  onClick={() => chooser.current?.click()}
                >
                  <ImageUp size={15} aria-hidden="true" />
                </IconButton>
                <IconButton
                  size="sm"
                  label={`Remove: ${label.toLowerCase()}`}
                  onClick={() => {
                    onValue(null);
                    // The button goes away with the picture; the focus stays in the field.
                    requestAnimationFrame(() => choose.current?.focus());
                  }}
                >
                  <X size={15} aria-hidden="true" />
                </IconButton>
              </div>
              {size && actions && (
                <div className="flex flex-wrap items-center gap-1.5">{actions(size)}</div>
              )}
            </div>
          </>
        )}
        <input
          ref={chooser}
          type="file"
          accept="image/png,image/jpeg,image/webp"
          aria-label={`${label}: file`}
          className="hidden"
          tabIndex={-1}
          onChange={(event) => {
            void take(event.target.files?.[0]);
            event.target.value = '';
          }}
        />
      </div>
      <div id={`${id}-about`} className="flex flex-col gap-1">
        <Messages problems={problems} notes={notes} />
        {hint && !problems.length && <p className="text-ink-3 text-xs">{hint}</p>}
      </div>
    </div>
  );
}
