// The pictures that rows of the list start from: chosen here, named in the column `image`.
import { ImageUp, X } from 'lucide-react';
import { useRef, useState } from 'react';

import { pictureUrl } from '@/api/media';
import { keepPicture } from '@/components/take-picture';
import { Button } from '@/components/ui/Button';
import { bulkStore, listOfPictures, updateBulk } from '@/lib/bulk-draft';
import { useStore } from '@/lib/store';

/** Takes picture files; into an empty list they write a row for each. */
async function takePictures(files: File[]): Promise<void> {
  for (const file of files) {
    const kept = await keepPicture(file);
    if (!kept) continue;
    const { pictures } = bulkStore.get();
    updateBulk({ pictures: { ...pictures, [file.name]: kept.reference } });
  }
  const { text, pictures } = bulkStore.get();
  const names = files.map(({ name }) => name).filter((name) => name in pictures);
  if (!text.trim() && names.length) updateBulk({ text: listOfPictures(names) });
}

export function AddPictures() {
  const chooser = useRef<HTMLInputElement>(null);
  const [isBusy, setBusy] = useState(false);
  return (
    <>
      <input
        ref={chooser}
        type="file"
        hidden
        multiple
        accept="image/png,image/jpeg,image/webp"
        aria-label="Pictures of the rows: files"
        onChange={(event) => {
          const files = [...(event.target.files ?? [])];
          event.target.value = '';
          setBusy(true);
          void takePictures(files).finally(() => setBusy(false));
        }}
      />
      <Button
        size="sm"
        isBusy={isBusy}
        icon={<ImageUp size={15} aria-hidden="true" />}
        onClick={() => chooser.current?.click()}
      >
        Add pictures
      </Button>
    </>
  );
}

export function RowPictures() {
  const { pictures } = useStore(bulkStore);
  const names = Object.keys(pictures);
  if (!names.length) return null;
  return (
    <ul aria-label="Pictures of the rows" className="flex gap-2 overflow-x-auto px-4 pb-2">
      {names.map((name) => (
        <li
          key={name}
          className="bg-raised border-line flex shrink-0 items-center gap-2 rounded-md border py-1 pr-1 pl-1.5"
        >
          <img
            src={pictureUrl(pictures[name]!)}
            alt=""
            draggable={false}
            className="bg-canvas size-8 rounded-sm object-cover"
          />
          <span className="max-w-40 truncate text-xs" title={name}>
            {name}
          </span>
          <button
            type="button"
            aria-label={`Forget ${name}`}
            className="text-ink-3 hover:text-ink hover:bg-hover grid size-6 place-items-center rounded-sm"
            onClick={() =>
              updateBulk({
                pictures: Object.fromEntries(
                  Object.entries(bulkStore.get().pictures).filter(([known]) => known !== name),
                ),
              })
            }
          >
            <X size={13} aria-hidden="true" />
          </button>
        </li>
      ))}
    </ul>
  );
}
