// What the clip is to be, on the left.
import { Clapperboard, Zap } from 'lucide-react';
import { useEffect, useRef } from 'react';

import { useModels, usePreflight, useSettings } from '@/api/queries';
import type { Estimate, Outline } from '@/api/types';
import { EstimateLine } from '@/components/domain/EstimateLine';
import { isUsable, makesClips, usualFormat } from '@/components/request/ability';
import { ClipFields, ShiftField } from '@/components/request/ClipFields';
import { LoraField } from '@/components/request/LoraField';
import { ModelPicker } from '@/components/request/ModelPicker';
import { PromptField } from '@/components/request/PromptField';
import { PromptPreview } from '@/components/request/PromptPreview';
import {
  AdvancedFields,
  CopiesField,
  Fold,
  GuidanceFields,
  messagesOf,
  NegativePrompt,
  SeedField,
  SizeField,
  StepsField,
} from '@/components/request/RequestFields';
import { SessionField } from '@/components/request/SessionField';
import { SourceFields } from '@/components/request/SourceFields';
import { useRequestForm } from '@/components/request/use-request-form';
import { stagedStore } from '@/components/stage/staged';
import { Button } from '@/components/ui/Button';
import { Skeleton } from '@/components/ui/Feedback';
import { Messages } from '@/components/ui/Field';
import { Keys } from '@/components/ui/Keys';
import { clipDraftStore } from '@/lib/draft';
import { followedClipStore } from '@/lib/followed';
import { formatDuration } from '@/lib/format';
import { useLatest } from '@/lib/hooks';
import { matchesChord } from '@/lib/keys';
import { useStore } from '@/lib/store';

const ALWAYS = { kind: 'video' } as const;

/** The form's model: the chosen one, that of the settings, or the first that makes clips. */
function useClipModel() {
  const { data } = useModels();
  const { data: settings } = useSettings();
  const chosen = useStore(clipDraftStore).model;
  const models = (data?.models ?? []).filter((model) => makesClips(model.capabilities));
  return (
    models.find((model) => model.id === chosen) ??
    models.find((model) => model.id === settings?.clip_model && isUsable(model)) ??
    models.find(isUsable)
  );
}

/** `832 × 480 · 81 frames · 5.1 s · 40 steps`. */
export function describeOutline({ size, steps, video }: Outline): string {
  const parts = [`${size.width} × ${size.height}`];
  if (video) {
    const seconds = Number((video.frames / video.fps).toFixed(1));
    parts.push(`${video.frames} frames`, `${seconds} s`);
  }
  return [...parts, `${steps} steps`].join(' · ');
}

function Cost({
  name,
  outline,
  estimate,
}: {
  name: string;
  outline: Outline;
  estimate: Estimate | null | undefined;
}) {
  const seconds = estimate?.seconds;
  return (
    <>
      <dt className="text-ink-3">{name}</dt>
      <dd className="text-ink-2">{describeOutline(outline)}</dd>
      <dd className="text-ink-2 text-right">
        {seconds != null && `about ${formatDuration(seconds)}`}
      </dd>
    </>
  );
}

export function VideoForm() {
  const model = useClipModel();
  const chosen = useStore(clipDraftStore);
  const form = useRequestForm({
    store: clipDraftStore,
    model,
    // The model on screen is the one that is asked, chosen or not.
    always: model && chosen.model === null ? { ...ALWAYS, model: model.id } : ALWAYS,
    beginning: 'Say what happens, or give a picture to begin with.',
    beginsWithPicture: true,
    onQueued: (batch) => followedClipStore.set({ batch, job: null }),
  });
  const { draft, change, outline } = form;
  const prompt = useRef<HTMLTextAreaElement>(null);
  const staged = useStore(stagedStore);
  // What a draft of it would be, in the same words as the whole.
  const small = usePreflight(
    form.request && !form.isEmpty ? { ...form.request, draft: true } : null,
  );
  const draftOutline = form.isEmpty ? undefined : small.data?.outline;

  const submit = useLatest((isDraft: boolean) => {
    if (form.isEmpty) prompt.current?.focus();
    form.generate(isDraft ? { draft: true } : undefined);
  });
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const isDraft = matchesChord(event, 'mod+enter');
      if (!isDraft && !matchesChord(event, 'mod+shift+enter')) return;
      event.preventDefault();
      submit(isDraft);
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, [submit]);

  const fields = model && {
    draft,
    model,
    problems: form.problems,
    notes: form.notes,
    defaultCopies: form.settings?.default_copies ?? 1,
    defaultFormat: usualFormat(model.capabilities, draft, form.settings),
    defaultTemplate: form.settings?.output_template ?? '',
    onChange: change,
  };
  const advanced = [
    'sampler',
    'schedule',
    'rng',
    'step_cache',
    'format',
    'output_name',
    'video.shift',
  ];
  const isAsked = !form.isEmpty && outline && !form.problems.length;

  return (
    <form
      aria-label="New clip"
      className="flex flex-col lg:min-h-0"
      onSubmit={(event) => {
        event.preventDefault();
        submit(true);
      }}
    >
      <div className="flex flex-1 flex-col gap-4 p-4 lg:min-h-0 lg:overflow-y-auto">
        <ModelPicker
          value={draft.model ?? model?.id ?? null}
          isOffered={(candidate) => makesClips(candidate.capabilities)}
          onValue={(value) => change({ model: value })}
          {...messagesOf(form, 'model')}
        />
        {fields && <SourceFields {...fields} staged={staged} />}
        <PromptField
          ref={prompt}
          value={draft.prompt}
          onValue={(value) => change({ prompt: value })}
          example={model?.example_prompts[0]}
          empty="What happens in the clip"
          limit={model?.capabilities.prompt_chars ?? 2000}
          hasWeights={model?.capabilities.prompt_weights ?? false}
          {...messagesOf(form, 'prompt', 'expansion')}
        />
        <PromptPreview draft={draft} onChange={change} />
        {fields ? (
          <>
            <NegativePrompt {...fields} />
            <SizeField {...fields} />
            <ClipFields {...fields} staged={staged} />
            <StepsField {...fields} />
            <GuidanceFields {...fields} />
            <ShiftField {...fields} />
            <SeedField {...fields} />
            <CopiesField {...fields} />
            <LoraField {...fields} />
            <Fold
              title="Advanced"
              hasProblem={form.problems.some(
                (problem) => problem.field && advanced.includes(problem.field),
              )}
            >
              <div className="flex flex-col gap-4">
                <SessionField value={draft.session} onValue={(session) => change({ session })} />
                <AdvancedFields {...fields} />
              </div>
            </Fold>
          </>
        ) : (
          <>
            <Skeleton className="h-40" />
            <Skeleton className="h-10" />
          </>
        )}
      </div>
      <div className="border-line bg-panel sticky bottom-0 z-10 flex flex-col gap-2 border-t px-4 pt-2 pb-4 max-lg:pb-3 lg:static">
        <Messages problems={form.general} />
        {form.obstacle ? (
          <p className="text-ink-3 flex min-h-6 items-center text-xs">{form.obstacle}</p>
        ) : (
          <div className="flex flex-col gap-0.5">
            {isAsked && (
              <dl className="tnum grid grid-cols-[2.5rem_minmax(0,1fr)_auto] gap-x-2 text-xs">
                {draftOutline?.draft && (
                  <Cost name="Draft" outline={draftOutline} estimate={small.data?.estimate} />
                )}
                <Cost name="Full" outline={outline} estimate={form.estimate} />
              </dl>
            )}
            <EstimateLine
              estimate={form.estimate}
              hasTime={!isAsked || form.estimate?.seconds == null}
            />
          </div>
        )}
        <div className="flex gap-2">
          <Button
            type="submit"
            variant="primary"
            size="lg"
            isBusy={form.isSubmitting}
            aria-disabled={form.isBlocked || undefined}
            icon={<Zap size={17} aria-hidden="true" />}
            className="flex-1"
          >
            Draft
            <span className="hidden opacity-80 sm:inline [&_kbd]:border-current/25 [&_kbd]:bg-transparent [&_kbd]:text-current">
              <Keys chord="mod+enter" />
            </span>
          </Button>
          <Button
            size="lg"
            isBusy={form.isSubmitting}
            aria-disabled={form.isBlocked || undefined}
            icon={<Clapperboard size={17} aria-hidden="true" />}
            className="flex-1"
            onClick={() => submit(false)}
          >
            In full
          </Button>
        </div>
      </div>
    </form>
  );
}
