// Pictures into the trash, with a way back.
import { toast } from 'sonner';

import { useCommand } from '@/api/client';
import { plural } from '@/lib/format';
import { toastError } from './toast';

export function useTrash(): (ids: string[], onDone?: () => void) => void {
  const trash = useCommand('assets_trash');
  const restore = useCommand('assets_restore');
  return (ids, onDone) => {
    if (!ids.length) return;
    trash.mutate(
      { ids },
      {
        onSuccess: () => {
          onDone?.();
          toast(`${plural(ids.length, 'picture')} in the trash.`, {
            duration: 12_000,
            action: {
              label: 'Undo',
              onClick: () => restore.mutate({ ids }, { onError: toastError }),
            },
          });
        },
        onError: toastError,
      },
    );
  };
}
