// From a picture to a clip, and from a draft to the whole, in one action from anywhere.
import { useNavigate } from 'react-router';
import { toast } from 'sonner';

import { useCommand } from '@/api/client';
import { useModels } from '@/api/queries';
import type { Submitted } from '@/api/types';
import { animates, isUsable } from '@/components/request/ability';
import { toastError } from '@/components/toast';
import { followedClipStore, followedStore } from '@/lib/followed';
import { plural } from '@/lib/format';

export function useClips() {
  const { data } = useModels();
  const navigate = useNavigate();
  const animate = useCommand('clips_animate');
  const makeFull = useCommand('clips_make_full');
  const tell = (what: string, { batch, notes }: Submitted, isClip = true) => {
    (isClip ? followedClipStore : followedStore).set({ batch, job: null });
    toast.success(what, {
      description: notes.map((note) => note.message).join(' ') || undefined,
      action: { label: 'Watch', onClick: () => void navigate(isClip ? '/video' : '/create') },
    });
  };
  return {
    /** Whether a model is here that makes clips from pictures. */
    canAnimate: (data?.models ?? []).some(
      (model) => isUsable(model) && animates(model.capabilities),
    ),
    isMakingFull: makeFull.isPending,
    /** Queues a draft for each picture, by their references. */
    animate: (images: string[]) =>
      animate.mutate(
        { images },
        {
          onSuccess: (queued) =>
            tell(`${plural(queued.pictures, 'draft clip')} in the queue.`, queued),
          onError: toastError,
        },
      ),
    /** Queues drafts again in full, by their ids. They are shown on the page of the first one. */
    makeFull: (ids: string[], isClip: boolean) =>
      makeFull.mutate(
        { ids },
        {
          onSuccess: (queued) =>
            tell(
              queued.pictures === 1
                ? 'Queued in full.'
                : `${plural(queued.pictures, 'draft')} queued in full.`,
              queued,
              isClip,
            ),
          onError: toastError,
        },
      ),
  };
}
