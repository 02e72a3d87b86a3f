// Files that are dropped anywhere: a picture gives its settings back, a list goes to Bulk.
import { FileDown } from 'lucide-react';
import { useEffect } from 'react';
import { useNavigate } from 'react-router';
import { toast } from 'sonner';

import { toApiError } from '@/api/error';
import { host } from '@/api/host';
import type { MetadataReading } from '@/api/types';
import { keepPicture, useStartFrom } from '@/components/take-picture';
import { takeList } from '@/components/take-list';
import { toastError } from '@/components/toast';
import { isListFile } from '@/lib/bulk-draft';
import { draftStore, loadSettings, startFrom, updateDraft } from '@/lib/draft';
import { dropTargetAt, fileHoverStore } from '@/lib/drag';
import { useLatest } from '@/lib/hooks';
import { useStore } from '@/lib/store';

const PROGRAMS: Record<string, string> = {
  kinora: 'Kinora',
  a1111: 'A1111',
  comfyui: 'ComfyUI',
  invokeai: 'InvokeAI',
  swarmui: 'SwarmUI',
  fooocus: 'Fooocus',
  novelai: 'NovelAI',
};

/** Clips give their settings back, and no request starts from one. */
const isClipFile = (name: string) => /\.(mp4|m4v|mov|webm|mkv|gif|zip)$/i.test(name);

export function FileDrops() {
  const navigate = useNavigate();
  const isOver = useStore(fileHoverStore);
  const startFromIt = useStartFrom();

  const keepAndStart = async (file: File) => {
    const kept = await keepPicture(file);
    if (kept) await startFromIt(kept.reference);
  };

  /** A field of the form takes the picture itself, whatever settings the file carries. */
  const takeInto = async (member: string, file: File) => {
    const kept = await keepPicture(file);
    if (!kept) return;
    if (member === 'image') updateDraft(startFrom(kept.reference));
    if (member === 'video.end_image') {
      updateDraft({ video: { ...draftStore.get().video, end_image: kept.reference } });
    }
  };

  const take = useLatest(async (files: File[], at: { x: number; y: number }) => {
    const file = files[0];
    if (!file) return;
    if (files.length > 1) toast.info(`Took ${file.name}; one file at a time.`);
    if (isListFile(file.name)) {
      if (await takeList(file)) void navigate('/bulk');
      return;
    }
    const member = dropTargetAt(at);
    if (member) return takeInto(member, file);
    try {
      const reading = (await host.readMetadata(file)) as MetadataReading;
      if (!reading.request) {
        // Nothing to take over but the picture itself.
        await keepAndStart(file);
        return;
      }
      loadSettings(reading.request);
      void navigate('/create');
      const program = reading.source ? (PROGRAMS[reading.source] ?? reading.source) : 'the file';
      toast.success(`Settings taken over from ${program}.`, {
        description: reading.notes.map((note) => note.message).join(' ') || undefined,
        duration: reading.notes.length ? 12_000 : 8000,
        action: isClipFile(file.name)
          ? undefined
          : { label: 'Start from it', onClick: () => void keepAndStart(file) },
      });
    } catch (error) {
      toastError(toApiError(error));
    }
  });

  useEffect(
    () =>
      host.watchFileDrops({
        onHover: fileHoverStore.set,
        onDrop: (files, at) => void take(files, at),
      }),
    [take],
  );

  if (!isOver) return null;
  return (
    <div className="bg-scrim animate-appear pointer-events-none fixed inset-0 z-[60] grid place-items-center p-6">
      <div className="bg-panel border-lamp shadow-float flex flex-col items-center gap-2 rounded-xl border-2 border-dashed px-12 py-10 text-center">
        <FileDown size={30} className="text-lamp-ink" aria-hidden="true" />
        <p className="text-lg font-semibold">Drop it here</p>
        <p className="text-ink-2 max-w-[44ch] text-balance">
          A picture or a clip gives its settings back; a picture without any is what the next one
          starts from. A list goes to Bulk.
        </p>
      </div>
    </div>
  );
}
