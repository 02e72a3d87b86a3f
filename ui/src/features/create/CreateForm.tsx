// What the user asks for, on the left.
import { Sparkle } from 'lucide-react';
import { useRef } from 'react';

import { useModel, useSettings } from '@/api/queries';
import { EstimateLine } from '@/components/domain/EstimateLine';
import { makesClip } from '@/components/request/ability';
import { ModelPicker } from '@/components/request/ModelPicker';
import { messagesOf } from '@/components/request/RequestFields';
import { PromptSection, RequestForm, SendButton } from '@/components/request/RequestForm';
import { RequestSettings } from '@/components/request/RequestSettings';
import { SourceFields } from '@/components/request/SourceFields';
import { useRequestForm } from '@/components/request/use-request-form';
import { stagedStore } from '@/components/stage/staged';
import { chooseModel, draftStore } from '@/lib/draft';
import { followedStore } from '@/lib/followed';
import { useChords } from '@/lib/hooks';
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
  const { draft, model, fields, change } = form;
  const prompt = useRef<HTMLTextAreaElement>(null);
  const staged = useStore(stagedStore);

  const submit = () => {
    if (form.isEmpty) prompt.current?.focus();
    form.generate();
  };
  useChords({ 'mod+enter': submit });

  const isClip = model !== undefined && makesClip(model.capabilities, draft);
  const things = isClip ? 'clips' : 'pictures';
  const one = isClip ? 'Generate clip' : 'Generate';

  return (
    <RequestForm
      label="New picture"
      form={form}
      onSubmit={submit}
      cost={<EstimateLine estimate={form.estimate} />}
      buttons={
        <SendButton form={form} icon={<Sparkle size={17} aria-hidden="true" />} chord="mod+enter">
          {form.pictures > 1 ? `Generate ${form.pictures} ${things}` : one}
        </SendButton>
      }
    >
      <PromptSection form={form} ref={prompt} />
      <ModelPicker
        value={draft.model}
        onValue={(value) => change(chooseModel(value))}
        {...messagesOf(form, 'model')}
      />
      {fields && <SourceFields {...fields} staged={staged} />}
      <RequestSettings fields={fields} staged={staged} />
    </RequestForm>
  );
}
