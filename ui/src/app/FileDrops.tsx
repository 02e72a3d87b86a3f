// Files that are dropped anywhere: a picture gives its settings back, a list goes to Bulk.
import { FileDown } from 'lucide-react';
import { useEffect, useState } from 'react';
import { useNavigate } from 'react-router';
import { toast } from 'sonner';

import { toApiError } from '@/api/error';
import { host } from '@/api/host';
import type { MetadataReading } from '@/api/types';
import { takeList } from '@/components/take-list';
import { toastError } from '@/components/toast';
import { isListFile } from '@/lib/bulk-draft';
import { loadSettings } from '@/lib/draft';
import { useLatest } from '@/lib/hooks';

const PROGRAMS: Record<string, string> = {
  kinora: 'Kinora',
  a1111: 'A1111',
  comfyui: 'ComfyUI',
  invokeai: 'InvokeAI',
  swarmui: 'SwarmUI',
  fooocus: 'Fooocus',
  novelai: 'NovelAI',
};

export function FileDrops() {
  const navigate = useNavigate();
  const [isOver, setOver] = useState(false);

  const take = useLatest(async (files: File[]) => {
    const file = files[0];
    if (!file) return;
    if (files.length > 1) toast.info(`Took ${file.name}; one file at a time.`);
    if (isListFile(file.name)) {
      if (await takeList(file)) void navigate('/bulk');
      return;
    }
    try {
      const reading = (await host.readMetadata(file)) as MetadataReading;
      if (!reading.request) {
        toast.info(`${file.name} carries no settings.`, {
          description: 'Other programs may have removed them when the file was saved or sent.',
        });
        return;
      }
      loadSettings(reading.request);
      void navigate('/create');
      const program = reading.source ? (PROGRAMS[reading.source] ?? reading.source) : 'the file';
      toast.success(`Settings taken over from ${program}.`, {
        description: reading.notes.map((note) => note.message).join(' ') || undefined,
        duration: reading.notes.length ? 9000 : 4000,
      });
    } catch (error) {
      toastError(toApiError(error));
    }
  });

  useEffect(
    () => host.watchFileDrops({ onHover: setOver, onDrop: (files) => void take(files) }),
    [take],
  );

  if (!isOver) return null;
  return (
    <div className="bg-scrim animate-appear pointer-events-none fixed inset-0 z-[60] grid place-items-center p-6">
      <div className="bg-panel border-lamp shadow-float flex flex-col items-center gap-2 rounded-xl border-2 border-dashed px-12 py-10 text-center">
        <FileDown size={30} className="text-lamp-ink" aria-hidden="true" />
        <p className="text-lg font-semibold">Drop it here</p>
        <p className="text-ink-2">
          A picture or a clip gives its settings back. A list goes to Bulk.
        </p>
      </div>
    </div>
  );
}
