// Where things lie and how the program is reached, each with where its value came from.
import { Copy } from 'lucide-react';
import { toast } from 'sonner';

import { useConfig, useSystem } from '@/api/queries';
import type { ConfigValue, ValueSource } from '@/api/types';
import { toastError } from '@/components/toast';
import { IconButton } from '@/components/ui/Button';
import { Badge, ErrorNotice, ProgressBar, Skeleton } from '@/components/ui/Feedback';
import { Card } from '@/components/ui/Page';
import { copyText } from '@/lib/clipboard';
import { formatBytes, titleCase } from '@/lib/format';

const SOURCE: Record<ValueSource, { label: string; tone: 'lamp' | 'info' | 'good' | 'plain' }> = {
  flag: { label: 'Command line', tone: 'lamp' },
  environment: { label: 'Environment', tone: 'info' },
  file: { label: 'config.toml', tone: 'good' },
  default: { label: 'Default', tone: 'plain' },
};

export function Folders() {
  const { data: config, error, refetch } = useConfig();
  const { data: system } = useSystem();
  if (error) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!config) return <Skeleton className="h-96" />;
  return (
    <div className="flex flex-col gap-4">
      <Card title="Disks">
        {system ? (
          <ul className="flex flex-col gap-4">
            {system.folders.map(({ name, path, free, total }) => (
              <li key={name}>
                <div className="mb-1 flex flex-wrap justify-between gap-x-3 text-sm">
                  <span className="font-medium">{titleCase(name)}</span>
                  <span className="text-ink-2 tnum">
                    {formatBytes(free)} free of {formatBytes(total)}
                  </span>
                </div>
                <ProgressBar
                  value={total ? 1 - free / total : 0}
                  label={`Used space of the ${name} folder’s disk`}
                  tone={total && free / total < 0.05 ? 'bad' : 'info'}
                />
                <p className="text-ink-3 mt-1 font-mono text-xs break-all">{path}</p>
              </li>
            ))}
          </ul>
        ) : (
          <Skeleton className="h-28" />
        )}
      </Card>
      <Card title="Configuration">
        <p className="text-ink-2 mb-3 text-sm">
          A command-line option wins over the environment, that over{' '}
          <code className="font-mono text-xs break-all">{config.file}</code>, and that over the
          default. Changes take effect at the next start.
        </p>
        <ul className="divide-line divide-y">
          {config.values.map((value) => (
            <Value key={value.key} value={value} />
          ))}
        </ul>
      </Card>
    </div>
  );
}

function Value({ value }: { value: ConfigValue }) {
  const source = SOURCE[value.source];
  return (
    <li className="flex items-center gap-3 py-2.5">
      <div className="min-w-0 flex-1">
        <p className="text-sm">
          <span className="font-medium">{value.description}</span>{' '}
          <code className="text-ink-3 font-mono text-xs">{value.variable}</code>
        </p>
        <p className="text-ink-2 font-mono text-xs break-all">{value.value ?? 'not set'}</p>
        {value.detail && <p className="text-ink-3 text-xs break-all">{value.detail}</p>}
      </div>
      <Badge tone={source.tone}>{source.label}</Badge>
      <IconButton
        size="sm"
        label={`Copy ${value.key}`}
        disabled={value.value === null}
        onClick={() =>
          void copyText(value.value ?? '').then(() => toast.success('Copied.'), toastError)
        }
      >
        <Copy size={14} aria-hidden="true" />
      </IconButton>
    </li>
  );
}
