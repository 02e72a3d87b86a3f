// What takes how much disk, and giving it back: always first as a rehearsal.
import { Brush } from 'lucide-react';
import { useState } from 'react';
import { Link } from 'react-router';
import { toast } from 'sonner';

import { useCommand } from '@/api/client';
import { useCleanupStatus } from '@/api/queries';
import type { CleanupInput, CleanupReport } from '@/api/types';
import { toastError } from '@/components/toast';
import { Button } from '@/components/ui/Button';
import { ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { Field } from '@/components/ui/Field';
import { Card } from '@/components/ui/Page';
import { Select } from '@/components/ui/Select';
import { formatBytes, formatCount, plural } from '@/lib/format';

const SCOPES = [
  { value: '24', label: 'Older than a day' },
  { value: '168', label: 'Older than a week' },
  { value: '720', label: 'Older than a month' },
  { value: 'all', label: 'Everything' },
];

export function Space() {
  const { data: status, error, refetch } = useCleanupStatus();
  if (error) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!status) return <Skeleton className="h-80" />;
  const rows = [
    { label: 'Pictures', usage: status.pictures, colour: 'var(--lamp)' },
    { label: 'Trash', usage: status.trash, colour: 'var(--bad)' },
    { label: 'Previews and checkpoints of jobs', usage: status.work, colour: 'var(--info-fill)' },
    {
      label: 'Thumbnails, contact sheets and encoded prompts',
      usage: status.caches,
      colour: 'var(--good-fill)',
    },
    { label: 'Database', usage: status.database, colour: 'var(--ink-3)' },
    {
      label: 'Files that Kinora does not know',
      usage: status.unknown_files,
      colour: 'var(--warn-fill)',
    },
  ];
  const total = rows.reduce((sum, { usage }) => sum + usage.bytes, 0) || 1;
  return (
    <div className="flex flex-col gap-4">
      <Card
        title="What takes space"
        aside={
          <span className="text-ink-2 tnum text-sm">{formatBytes(status.disk_free)} free</span>
        }
      >
        <div className="mb-4 flex h-2.5 gap-px overflow-hidden rounded-full" aria-hidden="true">
          {rows.map(({ label, usage, colour }) =>
            usage.bytes ? (
              <div key={label} style={{ flexGrow: usage.bytes / total, background: colour }} />
            ) : null,
          )}
        </div>
        <dl className="tnum grid grid-cols-[minmax(0,1fr)_auto_5.5rem] gap-x-4 gap-y-1.5 text-sm">
          {rows.map(({ label, usage, colour }) => (
            <div key={label} className="contents">
              <dt className="flex items-center gap-2">
                <span
                  className="size-2 shrink-0 rounded-full"
                  style={{ background: colour }}
                  aria-hidden="true"
                />
                {label}
              </dt>
              <dd className="text-ink-3 text-right">{formatCount(usage.count)}</dd>
              <dd className="text-right">{formatBytes(usage.bytes)}</dd>
            </div>
          ))}
        </dl>
        {status.missing_files > 0 && (
          <p role="alert" className="text-warn mt-3 text-sm">
            {plural(status.missing_files, 'picture')} of the gallery lost the file. It may have been
            moved or deleted outside Kinora.
          </p>
        )}
      </Card>
      <Cleanup trash={status.trash.count} />
    </div>
  );
}

function Cleanup({ trash }: { trash: number }) {
  const [scope, setScope] = useState('168');
  const [report, setReport] = useState<{ scope: string; report: CleanupReport } | null>(null);
  const run = useCommand('cleanup_run');
  const input = (dry_run: boolean): CleanupInput =>
    scope === 'all' ? { all: true, dry_run } : { hours: Number(scope), dry_run };
  const planned = report?.scope === scope ? report.report : null;
  const bytes = planned ? planned.work.bytes + planned.trash.bytes + planned.caches.bytes : 0;

  return (
    <Card title="Clean up">
      <p className="text-ink-2 mb-3 text-sm">
        Removes work files of finished jobs and what is in the{' '}
        <Link className="text-lamp-ink underline underline-offset-2" to="/gallery?trash=1">
          trash
        </Link>
        {trash > 0 && ` (${plural(trash, 'picture')})`}. “Everything” also drops thumbnails, which
        are made again when needed. Pictures in the gallery are never touched.
      </p>
      <div className="flex flex-wrap items-end gap-2">
        <Field label="What" className="w-56">
          {(attributes) => (
            <Select {...attributes} value={scope} options={SCOPES} onValue={setScope} />
          )}
        </Field>
        <Button
          isBusy={run.isPending}
          onClick={() =>
            run.mutate(input(true), {
              onSuccess: (result) => setReport({ scope, report: result }),
              onError: toastError,
            })
          }
        >
          See what would go
        </Button>
      </div>
      <div aria-live="polite">
        {planned && (
          <div className="bg-raised mt-4 rounded-md p-3.5">
            <p className="font-medium">
              {bytes ? `${formatBytes(bytes)} would be free again` : 'Nothing to remove'}
            </p>
            <p className="text-ink-2 tnum mt-0.5 text-sm">
              {plural(planned.work.count, 'work folder')} · {plural(planned.trash.count, 'picture')}{' '}
              from the trash · {plural(planned.caches.count, 'cached file')}
            </p>
            {bytes > 0 && (
              <Button
                variant="danger"
                size="sm"
                className="mt-3"
                isBusy={run.isPending}
                icon={<Brush size={14} aria-hidden="true" />}
                onClick={() =>
                  run.mutate(input(false), {
                    onSuccess: (result) => {
                      setReport(null);
                      toast.success(
                        `${formatBytes(result.work.bytes + result.trash.bytes + result.caches.bytes)} freed.`,
                      );
                    },
                    onError: toastError,
                  })
                }
              >
                Remove them for good
              </Button>
            )}
          </div>
        )}
      </div>
    </Card>
  );
}
