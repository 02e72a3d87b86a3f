// A picture that a request starts from, wherever it came from.
import { useQueryClient } from '@tanstack/react-query';
import { useNavigate } from 'react-router';
import { toast } from 'sonner';

import { toApiError } from '@/api/error';
import { host, type KeptInput } from '@/api/host';
import { call } from '@/api/client';
import { keys } from '@/api/keys';
import type { Model } from '@/api/types';
import { animates, isUsable, takesImage } from '@/components/request/ability';
import { toastError } from '@/components/toast';
import {
  chooseModel,
  clipDraftStore,
  draftStore,
  startFrom,
  updateClip,
  updateDraft,
} from '@/lib/draft';

/** Hands a file in; null where it could not be taken, which it says. */
export async function keepPicture(file: Blob): Promise<KeptInput | null> {
  try {
    return await host.keepInput(file);
  } catch (error) {
    toastError(toApiError(error));
    return null;
  }
}

/** The model that a picture goes to: the one of the form, else the first that can use it. */
export function modelFor(
  models: Model[],
  chosen: string | null,
  can: (model: Model) => boolean,
): Model | undefined {
  const now = models.find((model) => model.id === chosen);
  if (now && can(now)) return now;
  return models.find((model) => isUsable(model) && can(model));
}

/**
 * Puts a picture into the form and shows the form. Where the form's model takes none, another one
 * that does is chosen, and said.
 */
export function useStartFrom() {
  const navigate = useNavigate();
  const client = useQueryClient();
  return async (reference: string, model?: Model) => {
    updateDraft(startFrom(reference));
    void navigate('/create');
    // A drop can be quicker than the first page.
    const data = await client
      .ensureQueryData({ queryKey: keys.models(), queryFn: () => call('models_list', {}) })
      .catch(() => undefined);
    if (!data) return;
    const chosen = draftStore.get().model ?? data.default ?? null;
    const next =
      model ?? modelFor(data.models, chosen, ({ capabilities }) => takesImage(capabilities));
    if (next && next.id !== chosen) {
      updateDraft(chooseModel(next.id));
      toast.success(`The picture is in the form, for ${next.name}.`);
    } else if (next) {
      toast.success('The picture is in the form.');
    } else {
      toast.info('The picture is in the form, but no installed model starts from one.');
    }
  };
}

/** Puts a picture into the Video page's form, for a model that begins with one, and shows it. */
export function useBeginClip() {
  const navigate = useNavigate();
  const client = useQueryClient();
  return async (reference: string) => {
    updateClip(startFrom(reference));
    void navigate('/video');
    const data = await client
      .ensureQueryData({ queryKey: keys.models(), queryFn: () => call('models_list', {}) })
      .catch(() => undefined);
    if (!data) return;
    const next = modelFor(data.models, clipDraftStore.get().model, ({ capabilities }) =>
      animates(capabilities),
    );
    if (next) updateClip(chooseModel(next.id));
  };
}
