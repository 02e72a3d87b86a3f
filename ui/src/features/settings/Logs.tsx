// The newest lines of the log.
import { Copy } from 'lucide-react';
import { useLayoutEffect, useRef, useState } from 'react';
import { toast } from 'sonner';

import { useLogs } from '@/api/queries';
import type { LogLevel } from '@/api/types';
import { toastError } from '@/components/toast';
import { Button } from '@/components/ui/Button';
import { ErrorNotice } from '@/components/ui/Feedback';
import { TextInput } from '@/components/ui/Field';
import { Select } from '@/components/ui/Select';
import { copyText } from '@/lib/clipboard';
import { cx } from '@/lib/cx';
import { useDebounced } from '@/lib/hooks';

const LEVELS: { value: LogLevel; label: string }[] = [
  { value: 'error', label: 'Errors' },
  { value: 'warn', label: 'Warnings and worse' },
  { value: 'info', label: 'What happened' },
  { value: 'debug', label: 'With details' },
];

const TONE: Record<LogLevel, string> = {
  trace: 'text-ink-3',
  debug: 'text-ink-3',
  info: 'text-info',
  warn: 'text-warn',
  error: 'text-bad',
};

const time = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
});

export function Logs() {
  const [level, setLevel] = useState<LogLevel>('info');
  const [search, setSearch] = useState('');
  const settled = useDebounced(search, 250);
  const { data, error, refetch } = useLogs({ level, search: settled || null, lines: 500 }, true);
  const box = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);
  const lines = data?.lines ?? [];

  // New lines come in at the end, and the view follows unless the user looks further up.
  useLayoutEffect(() => {
    if (isAtEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [data]);

  return (
    <div className="flex flex-col gap-3">
      <div className="flex flex-wrap gap-2">
        <TextInput
          type="search"
          aria-label="Search the log"
          placeholder="Search the log"
          className="!w-64 max-sm:!w-full"
          value={search}
          onChange={(event) => setSearch(event.target.value)}
        />
        <Select<LogLevel>
          aria-label="Least level"
          className="w-52"
          value={level}
          options={LEVELS}
          onValue={setLevel}
        />
        <Button
          className="ml-auto"
          icon={<Copy size={15} aria-hidden="true" />}
          disabled={!lines.length}
          onClick={() =>
            void copyText(
              lines
                .map(
                  (line) =>
                    `${new Date(line.at).toISOString()} ${line.level} ${line.target}: ${line.message}`,
                )
                .join('\n'),
            ).then(() => toast.success('Log copied.'), toastError)
          }
        >
          Copy
        </Button>
      </div>
      {error ? (
        <ErrorNotice error={error} onRetry={() => void refetch()} />
      ) : (
        <div
          ref={box}
          role="log"
          aria-label="Log"
          // Scrollable, so it has to be reachable by keyboard.
          // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
          tabIndex={0}
          onScroll={(event) => {
            const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
            isAtEnd.current = scrollHeight - scrollTop - clientHeight < 24;
          }}
          className="bg-panel border-line h-[62vh] overflow-auto rounded-lg border p-3 font-mono text-xs leading-5"
        >
          {lines.map((line, index) => (
            <p key={`${line.at}-${index}`} className="flex gap-3">
              <span className="text-ink-3 tnum shrink-0">{time.format(line.at)}</span>
              <span className={cx('w-10 shrink-0', TONE[line.level])}>{line.level}</span>
              <span className="min-w-0 break-words">
                <span className="text-ink-3">{line.target} </span>
                {line.message}
              </span>
            </p>
          ))}
          {data && !lines.length && (
            <p className="text-ink-2 p-4 text-center font-sans">No such lines.</p>
          )}
        </div>
      )}
    </div>
  );
}
