// What the user asks for, on the left.
import { Sparkle } from 'lucide-react';
import { useEffect, useRef } from 'react';

import { useModel, useSettings } from '@/api/queries';
import { EstimateLine } from '@/components/domain/EstimateLine';
import { makesClip, usualFormat } from '@/components/request/ability';
import { ClipFields, ShiftField, TilingField } from '@/components/request/ClipFields';
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
import { draftStore } from '@/lib/draft';
import { followedStore } from '@/lib/followed';
import { useLatest } from '@/lib/hooks';
import { matchesChord } from '@/lib/keys';
import { useStore } from '@/lib/store';

export function CreateForm() {
  const { data: settings } = useSettings();
  const chosen = useStore(draftStore).model;
  const wanted = useModel(chosen ?? settings?.default_model);
  const form = useRequestForm({
    store: draftStore,
    model: wanted,
    beginning: wanted?.capabilities.modes.includes('variation')
      ? 'Give a picture to begin, with words or without.'
      : 'Write a prompt to begin.',
    onQueued: (batch) => followedStore.set({ batch, job: null }),
  });
  const { draft, model, change } = form;
  const prompt = useRef<HTMLTextAreaElement>(null);
  const staged = useStore(stagedStore);

  const submit = useLatest(() => {
    if (form.isEmpty) prompt.current?.focus();
    form.generate();
  });
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (!matchesChord(event, 'mod+enter')) return;
      event.preventDefault();
      submit();
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
  const isClip = model !== undefined && makesClip(model.capabilities, draft);

  return (
    <form
      aria-label="New picture"
      className="flex flex-col lg:min-h-0"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <div className="flex flex-1 flex-col gap-4 p-4 lg:min-h-0 lg:overflow-y-auto">
        <PromptField
          ref={prompt}
          value={draft.prompt}
          onValue={(value) => change({ prompt: value })}
          example={model?.example_prompts[0]}
          limit={model?.capabilities.prompt_chars ?? 2000}
          hasWeights={model?.capabilities.prompt_weights ?? false}
          {...messagesOf(form, 'prompt', 'expansion')}
        />
        <PromptPreview draft={draft} onChange={change} />
        <ModelPicker
          value={draft.model}
          onValue={(value) => change({ model: value })}
          {...messagesOf(form, 'model')}
        />
        {fields ? (
          <>
            <SourceFields {...fields} staged={staged} />
            <NegativePrompt {...fields} />
            <SizeField {...fields} />
            <ClipFields {...fields} staged={staged} />
            <SeedField {...fields} />
            <StepsField {...fields} />
            <GuidanceFields {...fields} />
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
                <ShiftField {...fields} />
                <TilingField {...fields} />
              </div>
            </Fold>
          </>
        ) : (
          <>
            <Skeleton className="h-40" />
            <Skeleton className="h-10" />
            <Skeleton className="h-10" />
          </>
        )}
      </div>
      <div className="border-line bg-panel sticky bottom-0 z-10 flex flex-col gap-1.5 border-t px-4 pt-2 pb-4 max-lg:pb-3 lg:static">
        <Messages problems={form.general} />
        <div className="flex min-h-6 items-center">
          {form.obstacle ? (
            <p className="text-ink-3 text-xs">{form.obstacle}</p>
          ) : (
            <EstimateLine estimate={form.estimate} />
          )}
        </div>
        <Button
          type="submit"
          variant="primary"
          size="lg"
          isBusy={form.isSubmitting}
          aria-disabled={form.isBlocked || undefined}
          icon={<Sparkle size={17} aria-hidden="true" />}
          className="w-full"
        >
          {form.pictures > 1
            ? `Generate ${form.pictures} ${isClip ? 'clips' : 'pictures'}`
            : isClip
              ? 'Generate clip'
              : 'Generate'}
          <span className="hidden opacity-80 sm:inline [&_kbd]:border-current/25 [&_kbd]:bg-transparent [&_kbd]:text-current">
            <Keys chord="mod+enter" />
          </span>
        </Button>
      </div>
    </form>
  );
}
