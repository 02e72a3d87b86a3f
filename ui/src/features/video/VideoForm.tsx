// What the clip is to be, on the left.
import { Clapperboard, Zap } from 'lucide-react';
import { useRef } from 'react';

import { useModels, usePreflight, useSettings } from '@/api/queries';
import type { Estimate, Outline } from '@/api/types';
import { EstimateLine } from '@/components/domain/EstimateLine';
import { isUsable, makesClips } from '@/components/request/ability';
import { ModelPicker } from '@/components/request/ModelPicker';
import { messagesOf } from '@/components/request/RequestFields';
import { PromptSection, RequestForm, SendButton } from '@/components/request/RequestForm';
import { RequestSettings } from '@/components/request/RequestSettings';
import { SourceFields } from '@/components/request/SourceFields';
import { useRequestForm } from '@/components/request/use-request-form';
import { stagedStore } from '@/components/stage/staged';
import { chooseModel, clipDraftStore } from '@/lib/draft';
import { followedClipStore } from '@/lib/followed';
import { formatDuration } from '@/lib/format';
import { useChords } from '@/lib/hooks';
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
  const { draft, fields, change, outline } = form;
  const prompt = useRef<HTMLTextAreaElement>(null);
  const staged = useStore(stagedStore);
  // What a draft of it would be, in the same words as the whole.
  const small = usePreflight(
    form.request && !form.isEmpty ? { ...form.request, draft: true } : null,
  );
  const draftOutline = form.isEmpty ? undefined : small.data?.outline;

  const submit = (isDraft: boolean) => {
    if (form.isEmpty) prompt.current?.focus();
    form.generate(isDraft ? { draft: true } : undefined);
  };
  useChords({ 'mod+enter': () => submit(true), 'mod+shift+enter': () => submit(false) });

  const isAsked = !form.isEmpty && outline && !form.problems.length;
  return (
    <RequestForm
      label="New clip"
      form={form}
      onSubmit={() => submit(true)}
      cost={
        <>
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
        </>
      }
      buttons={
        <>
          <SendButton form={form} icon={<Zap size={17} aria-hidden="true" />} chord="mod+enter">
            Draft
          </SendButton>
          <SendButton
            form={form}
            icon={<Clapperboard size={17} aria-hidden="true" />}
            onSend={() => submit(false)}
          >
            In full
          </SendButton>
        </>
      }
    >
      <ModelPicker
        value={draft.model ?? model?.id ?? null}
        isOffered={(candidate) => makesClips(candidate.capabilities)}
        onValue={(value) => change(chooseModel(value))}
        {...messagesOf(form, 'model')}
      />
      {fields && <SourceFields {...fields} staged={staged} />}
      <PromptSection form={form} empty="What happens in the clip" ref={prompt} />
      <RequestSettings fields={fields} staged={staged} />
    </RequestForm>
  );
}
