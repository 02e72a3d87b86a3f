// What can be done with a whole list that was run: rows again, the rest cancelled, sheet, table.
import { Ban, Download, Images, Repeat2 } from 'lucide-react';
import { useState } from 'react';
import { toast } from 'sonner';

import { call, useCommand } from '@/api/client';
import { host } from '@/api/host';
import type { StateCounts, TableFormat } from '@/api/types';
import { toastError } from '@/components/toast';
import { Button } from '@/components/ui/Button';
import { Confirm } from '@/components/ui/Dialog';
import { Menu } from '@/components/ui/Menu';
import { formatCount, plural } from '@/lib/format';

async function saveTable(id: string, format: TableFormat): Promise<void> {
  const table = await call('batches_table', { id, format });
  await host.saveFile(table.name, new Blob([table.text], { type: table.media_type }));
}

/** Rows that have not ended. */
export const countOpen = (counts: StateCounts) => counts.queued + counts.running + counts.paused;

export function BatchActions({ id, counts }: { id: string; counts: StateCounts | undefined }) {
  const [isAsking, setAsking] = useState(false);
  const cancel = useCommand('queue_cancel_all');
  const retry = useCommand('queue_retry_failed');
  const sheet = useCommand('batches_contact_sheet');
  const open = counts ? countOpen(counts) : 0;
  return (
    <>
      {counts && counts.failed > 0 && (
        <Button
          size="sm"
          isBusy={retry.isPending}
          icon={<Repeat2 size={15} aria-hidden="true" />}
          onClick={() =>
            retry.mutate(
              { batch: id, with_fix: true },
              {
                onSuccess: ({ jobs: count }) =>
                  toast.success(`${plural(count, 'row')} queued again.`),
                onError: toastError,
              },
            )
          }
        >
          Run {formatCount(counts.failed)} failed again
        </Button>
      )}
      {open > 0 && (
        <Button
          size="sm"
          icon={<Ban size={15} aria-hidden="true" />}
          onClick={() => setAsking(true)}
        >
          Cancel the rest
        </Button>
      )}
      <Button
        size="sm"
        isBusy={sheet.isPending}
        disabled={!counts?.done}
        icon={<Images size={15} aria-hidden="true" />}
        onClick={() =>
          sheet.mutate(
            { id },
            {
              onSuccess: ({ url, path, pictures }) => {
                toast.success(`Contact sheet of ${plural(pictures, 'picture')} drawn.`, {
                  description: path,
                  action: {
                    label: 'Open',
                    // The sheet keeps its address when it is drawn again.
                    onClick: () =>
                      void host.openExternal(host.mediaUrl(`${url}?drawn=${Date.now()}`)),
                  },
                });
              },
              onError: toastError,
            },
          )
        }
      >
        Contact sheet
      </Button>
      <Menu
        trigger={
          <Button size="sm" icon={<Download size={15} aria-hidden="true" />}>
            Export table
          </Button>
        }
        actions={(['csv', 'tsv', 'jsonl'] as const).map((format) => ({
          label: { csv: 'CSV', tsv: 'TSV', jsonl: 'JSON lines' }[format],
          onSelect: () => void saveTable(id, format).catch(toastError),
        }))}
      />
      <Confirm
        isOpen={isAsking}
        onOpen={setAsking}
        title={`Cancel ${plural(open, 'row')}?`}
        action="Cancel the rest"
        onConfirm={() => cancel.mutate({ batch: id }, { onError: toastError })}
      >
        Finished pictures stay. The running row stops at its next step.
      </Confirm>
    </>
  );
}
