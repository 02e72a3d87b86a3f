// A form's state: what was chosen, what the server says about it, and sending it off.
import { useEffect, useState } from 'react';

import { useCommand } from '@/api/client';
import { ApiError } from '@/api/error';
import { usePreflight, useSessions, useSettings } from '@/api/queries';
import type { Model, Problem, RequestInput } from '@/api/types';
import { toastError, toastNotes } from '@/components/toast';
import { draftRequest, rememberPrompt, type Draft } from '@/lib/draft';
import { plural } from '@/lib/format';
import { useDebounced } from '@/lib/hooks';
import { useStore, type Store } from '@/lib/store';
import { fitDraft, isPictureEnough, usualFormat } from './ability';
import type { RequestFieldsProps } from './RequestFields';

const CHECK_AFTER_MS = 220;

/** Fields that have a place in the form; what is said about others is shown above the button. */
const PLACED = new Set([
  'prompt',
  'negative_prompt',
  'expansion',
  'model',
  'components',
  'width',
  'height',
  'size',
  'steps',
  'guidance',
  'true_cfg',
  'step_cache',
  'copies',
  'seed',
  'rng',
  'sampler',
  'schedule',
  'format',
  'output_name',
  'image',
  'more_images',
  'mask',
  'strength',
  'loras',
  'draft',
  'video',
  'video.frames',
  'video.seconds',
  'video.fps',
  'video.end_image',
  'video.cfg_2',
  'video.low_share',
  'video.boundary',
  'video.shift',
  'video.sound',
  'video.context_frames',
  'video.context_overlap',
  'video.vae_tiling',
]);

const IN_LIST = /^(loras|more_images)\[(\d+)\]/;

/** Whether what is said about a place in a list is about what stands there now: the answer may be
 * older than the row. */
function isStillThere({ field }: Problem, asked: RequestInput, now: RequestInput): boolean {
  const [, list, place] = IN_LIST.exec(field ?? '') ?? [];
  if (!list) return true;
  const at = (request: RequestInput) =>
    JSON.stringify(request[list as 'loras' | 'more_images']?.[Number(place)]);
  return at(asked) === at(now);
}

/** `loras[2].weight` and `components.vae` have their place as well. */
const isPlaced = (field: string) =>
  PLACED.has(
    field.replace(/^(loras|more_images)\[.*/, '$1').replace(/^components\..*/, 'components'),
  );

interface FormOptions {
  store: Store<Draft>;
  /** What the form is drawn for. */
  model: Model | undefined;
  /** What every request of the form says besides what was chosen. */
  always?: Partial<RequestInput>;
  /** What it says before anything can be made. */
  beginning: string;
  /** Whether a picture says enough before a model is known. */
  beginsWithPicture?: boolean;
  onQueued(batch: string): void;
}

/** What a form's fields need to be drawn. */
export type RequestForm = ReturnType<typeof useRequestForm>;

export function useRequestForm({
  store,
  model,
  always,
  beginning,
  beginsWithPicture = false,
  onQueued,
}: FormOptions) {
  const draft = useStore(store);
  const { data: settings } = useSettings();
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
    if (isLost) store.set((now) => ({ ...now, session: null }));
  }, [isLost, store]);

  const settled = useDebounced(draft, CHECK_AFTER_MS);
  const isTold =
    (beginsWithPicture && draft.image !== null) ||
    (model !== undefined && isPictureEnough(model.capabilities, draft));
  const isEmpty = !draft.prompt.trim() && !isTold;
  const requestOf = (from: Draft): RequestInput => ({
    ...(draftRequest(model ? fitDraft(from, model.capabilities) : from) as RequestInput),
    ...always,
  });
  const preflight = usePreflight(model ? requestOf(settled) : null);

  const answered = (preflight.data?.problems ?? []).filter((problem) =>
    isStillThere(problem, preflight.data!.asked, requestOf(draft)),
  );
  const said = refused.length ? refused : answered;
  // Before the first attempt, what was not given yet is a beginning and not a mistake: words, and in
  // an empty form the picture that a model cannot do without.
  const isMissing = ({ field }: Problem) =>
    settled.prompt.trim() === '' &&
    (field === 'prompt' || (field === 'image' && settled.image === null));
  const problems = said.filter((problem) => isTried || !isMissing(problem));
  const notes = preflight.data?.notes ?? [];
  const general = problems.filter((problem) => !problem.field || !isPlaced(problem.field));

  const change = (next: Partial<Draft>) => {
    setRefused([]);
    store.set((now) => ({ ...now, ...next }));
  };

  const generate = (more?: Partial<RequestInput>) => {
    setTried(true);
    if (isEmpty || submit.isPending) return;
    rememberPrompt(draft.prompt);
    submit.mutate(
      { ...requestOf(draft), ...more },
      {
        onSuccess: ({ batch, session, notes: told }) => {
          onQueued(batch);
          if (session) store.set((now) => ({ ...now, session }));
          toastNotes(told);
        },
        onError: (error) => {
          if (error instanceof ApiError && error.problems.some((problem) => problem.field)) {
            setRefused(error.problems);
          } else toastError(error);
        },
      },
    );
  };

  const obstacle = isEmpty
    ? beginning
    : problems.length
      ? `${plural(problems.length, 'problem')} to put right first.`
      : null;

  const fields: RequestFieldsProps | undefined = model && {
    draft,
    model,
    problems,
    notes,
    defaultCopies: settings?.default_copies ?? 1,
    defaultFormat: usualFormat(model.capabilities, draft, settings),
    defaultTemplate: settings?.output_template ?? '',
    onChange: change,
  };

  return {
    draft,
    model,
    /** What each field is drawn from; undefined until the model is known. */
    fields,
    problems,
    notes,
    general,
    estimate: preflight.data?.estimate,
    /** What the first result would be. */
    outline: preflight.data?.outline,
    /** The request of the form as it was a moment ago. */
    request: model ? requestOf(settled) : null,
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
