// The Create form's state: what was chosen, what the server says about it, and sending it off.
import { useEffect, useState } from 'react';

import { useCommand } from '@/api/client';
import { ApiError } from '@/api/error';
import { useModel, usePreflight, useSessions, useSettings } from '@/api/queries';
import type { Problem, RequestInput } from '@/api/types';
import { fitDraft } from '@/components/request/ability';
import { toastError, toastNotes } from '@/components/toast';
import { draftRequest, draftStore, rememberPrompt, updateDraft, type Draft } from '@/lib/draft';
import { plural } from '@/lib/format';
import { useDebounced } from '@/lib/hooks';
import { useStore } from '@/lib/store';
import { followedStore } from './followed';

const CHECK_AFTER_MS = 220;

/** Fields that have a place in the form; what is said about others is shown above the button. */
const PLACED = new Set([
  'prompt',
  'negative_prompt',
  'expansion',
  'model',
  'width',
  'height',
  'size',
  'steps',
  'guidance',
  'true_cfg',
  'copies',
  'seed',
  'rng',
  'sampler',
  'schedule',
  'format',
  'output_name',
  'image',
  'mask',
  'strength',
  'loras',
  'video',
  'video.frames',
  'video.seconds',
  'video.fps',
  'video.end_image',
  'video.cfg_2',
  'video.low_share',
  'video.shift',
  'video.sound',
]);

/** `loras[2].weight` has its place as well. */
const isPlaced = (field: string) => PLACED.has(field.replace(/^loras\[.*/, 'loras'));

export function useCreateForm() {
  const draft = useStore(draftStore);
  const { data: settings } = useSettings();
  const model = useModel(draft.model ?? settings?.default_model);
  const [isTried, setTried] = useState(false);
  const [refused, setRefused] = useState<Problem[]>([]);
  const submit = useCommand('jobs_submit');

  // A session that was removed is no place to put pictures.
  const { data: sessions, isFetching } = useSessions();
  const isLost =
    draft.session !== null &&
    sessions !== undefined &&
    !isFetching &&
    !submit.isPending &&
    sessions.items.length === sessions.total &&
    !sessions.items.some((session) => session.id === draft.session);
  useEffect(() => {
    if (isLost) updateDraft({ session: null });
  }, [isLost]);

  const settled = useDebounced(draft, CHECK_AFTER_MS);
  const isEmpty = !draft.prompt.trim();
  const requestOf = (from: Draft) =>
    draftRequest(model ? fitDraft(from, model.capabilities) : from) as RequestInput;
  const preflight = usePreflight(model ? requestOf(settled) : null);

  const said = refused.length ? refused : (preflight.data?.problems ?? []);
  // Before the first attempt, an empty prompt is a beginning and not a mistake.
  const problems = said.filter(
    (problem) => !(problem.field === 'prompt' && settled.prompt.trim() === '' && !isTried),
  );
  const notes = preflight.data?.notes ?? [];
  const general = problems.filter((problem) => !problem.field || !isPlaced(problem.field));

  const change: typeof updateDraft = (next) => {
    setRefused([]);
    updateDraft(next);
  };

  const generate = () => {
    setTried(true);
    if (isEmpty || submit.isPending) return;
    rememberPrompt(draft.prompt);
    submit.mutate(requestOf(draft), {
      onSuccess: ({ batch, session, notes: told }) => {
        followedStore.set({ batch, job: null });
        if (session) updateDraft({ session });
        toastNotes(told);
      },
      onError: (error) => {
        if (error instanceof ApiError && error.problems.some((problem) => problem.field)) {
          setRefused(error.problems);
        } else toastError(error);
      },
    });
  };

  const obstacle = isEmpty
    ? 'Write a prompt to begin.'
    : problems.length
      ? `${plural(problems.length, 'problem')} to put right first.`
      : null;

  return {
    draft,
    model,
    settings,
    problems,
    notes,
    general,
    estimate: preflight.data?.estimate,
    pictures: preflight.data?.pictures ?? 0,
    /** Why nothing can be generated yet. */
    obstacle,
    isBlocked: isEmpty || said.length > 0,
    isEmpty,
    isSubmitting: submit.isPending,
    change,
    generate,
  };
}
