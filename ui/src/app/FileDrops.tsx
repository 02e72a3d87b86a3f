// Files that are dropped anywhere: a picture gives its settings back, begins to move where it is
// dropped on the sign for that, or begins the clip of the Video page; a list goes to Bulk.
import { Clapperboard, FileDown } from 'lucide-react';
import { useEffect } from 'react';
import { useLocation, useNavigate } from 'react-router';
import { toast } from 'sonner';

import { toApiError } from '@/api/error';
import { host } from '@/api/host';
import type { MetadataReading } from '@/api/types';
import { keepPicture, useBeginClip, useStartFrom } from '@/components/take-picture';
import { takeList } from '@/components/take-list';
import { toastError } from '@/components/toast';
import { useClips } from '@/components/use-clips';
import { isListFile } from '@/lib/bulk-draft';
import { clipDraftStore, draftStore, loadSettings, startFrom } from '@/lib/draft';
import { ANIMATE_TARGET, DROP_ATTRIBUTE, dropTargetAt, fileHoverStore } from '@/lib/drag';
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

/** As many as one drop sets in motion. */
const MOST_ANIMATED = 64;

/** Clips give their settings back, and no request starts from one. */
const isClipFile = (name: string) => /\.(mp4|m4v|mov|webm|mkv|gif|zip)$/i.test(name);

export function FileDrops() {
  const navigate = useNavigate();
  const isOver = useStore(fileHoverStore);
  const startFromIt = useStartFrom();
  const beginClip = useBeginClip();
  const clips = useClips();
  const isOnVideo = useLocation().pathname.startsWith('/video');

  const keepAndStart = async (file: File) => {
    const kept = await keepPicture(file);
    if (kept) await startFromIt(kept.reference);
  };

  /** A field of the form takes the picture itself, whatever settings the file carries. */
  const takeInto = async (member: string, file: File) => {
    const kept = await keepPicture(file);
    if (!kept) return;
    const form = isOnVideo ? clipDraftStore : draftStore;
    const { reference } = kept;
    const more = /^more_images(?:\[(\d+)\])?$/.exec(member);
    if (more) {
      form.set((now) => {
        const images = [...now.more_images];
        const at = more[1] === undefined ? images.length : Number(more[1]);
        images[at] = { strength: null, ...images[at], image: reference };
        return { ...now, more_images: images };
      });
    }
    if (member === 'image') form.set((now) => ({ ...now, ...startFrom(reference) }));
    if (member === 'video.end_image') {
      form.set((now) => ({ ...now, video: { ...now.video, end_image: reference } }));
    }
  };

  /** All of them begin to move, each as a draft of its own. */
  const animate = async (files: File[]) => {
    const references: string[] = [];
    for (const file of files.slice(0, MOST_ANIMATED)) {
      const kept = await keepPicture(file);
      if (kept) references.push(kept.reference);
    }
    if (references.length) clips.animate(references);
  };

  const take = useLatest(async (files: File[], at: { x: number; y: number }) => {
    const file = files[0];
    if (!file) return;
    const member = dropTargetAt(at);
    if (member === ANIMATE_TARGET) return animate(files);
    if (files.length > 1) toast.info(`Took ${file.name}; one file at a time.`);
    if (isListFile(file.name)) {
      if (await takeList(file)) void navigate('/bulk');
      return;
    }
    if (member) return takeInto(member, file);
    if (isOnVideo && !isClipFile(file.name)) {
      const kept = await keepPicture(file);
      if (kept) await beginClip(kept.reference);
      return;
    }
    try {
      const reading = (await host.readMetadata(file)) as MetadataReading;
      if (!reading.request) {
        // Nothing to take over but the picture itself.
        await keepAndStart(file);
        return;
      }
      void navigate(loadSettings(reading.request));
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
    <div className="bg-scrim animate-appear pointer-events-none fixed inset-0 z-[60] flex flex-col items-center justify-center gap-4 p-6">
      <div className="bg-panel border-lamp shadow-float flex flex-col items-center gap-2 rounded-xl border-2 border-dashed px-12 py-10 text-center">
        <FileDown size={30} className="text-lamp-ink" aria-hidden="true" />
        <p className="text-lg font-semibold">Drop it here</p>
        <p className="text-ink-2 max-w-[44ch] text-balance">
          {isOnVideo
            ? 'The clip begins with the picture. A list goes to Bulk.'
            : 'A picture or a clip gives its settings back; a picture without any is what the next one starts from. A list goes to Bulk.'}
        </p>
      </div>
      {clips.canAnimate && (
        <div
          {...{ [DROP_ATTRIBUTE]: ANIMATE_TARGET }}
          className="bg-panel border-edge hover:border-lamp hover:bg-lamp-wash shadow-float pointer-events-auto flex items-center gap-4 rounded-xl border-2 border-dashed px-10 py-6"
        >
          <Clapperboard size={26} className="text-lamp-ink shrink-0" aria-hidden="true" />
          <div>
            <p className="text-lg font-semibold">Make it move</p>
            <p className="text-ink-2 max-w-[36ch]">Here it becomes a draft clip, at once.</p>
          </div>
        </div>
      )}
    </div>
  );
}
