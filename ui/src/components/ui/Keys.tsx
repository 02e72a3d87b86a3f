// A keyboard chord as keycaps.
import { chordKeys } from '@/lib/keys';

export function Keys({ chord }: { chord: string }) {
  return (
    <span className="inline-flex items-center gap-0.5">
      {chordKeys(chord).map((key) => (
        <kbd
          key={key}
          className="border-line bg-raised text-ink-2 inline-grid h-5 min-w-5 place-items-center rounded-sm border px-1 font-sans text-xs"
        >
          {key}
        </kbd>
      ))}
    </span>
  );
}
