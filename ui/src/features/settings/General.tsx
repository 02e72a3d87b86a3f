// How it looks and what a request gets that says nothing else. Every change is saved at once.
import { useState } from 'react';

import { useCommand } from '@/api/client';
import { useModels, useSettings } from '@/api/queries';
import type { ClipFormat, ImageFormat, Settings, SettingsUpdate, Theme } from '@/api/types';
import { ModelPicker } from '@/components/request/ModelPicker';
import { animates, clipFormats, isUsable, pictureFormats } from '@/components/request/ability';
import { toastError } from '@/components/toast';
import { Button } from '@/components/ui/Button';
import { ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { Field, TextInput } from '@/components/ui/Field';
import { NumberInput } from '@/components/ui/NumberInput';
import { Card } from '@/components/ui/Page';
import { Segmented } from '@/components/ui/Segmented';
import { Select } from '@/components/ui/Select';
import { SwitchRow } from '@/components/ui/Switch';
import { toApiError } from '@/api/error';
import { singleKeysStore, themeStore } from '@/lib/preferences';
import { useStore } from '@/lib/store';

export function General() {
  const { data: settings, error, refetch } = useSettings();
  if (error) return <ErrorNotice error={error} onRetry={() => void refetch()} />;
  if (!settings) return <Skeleton className="h-96" />;
  return <Form settings={settings} />;
}

function Form({ settings }: { settings: Settings }) {
  const update = useCommand('settings_update');
  const hasSingleKeys = useStore(singleKeysStore);
  const { data } = useModels();
  const animators = (data?.models ?? []).filter((model) => animates(model.capabilities));
  const firstAnimator = animators.find(isUsable)?.id;
  const [refused, setRefused] = useState<{
    field: keyof Settings;
    message: string;
    hint: string;
  }>();

  const save = (change: SettingsUpdate) => {
    setRefused(undefined);
    update.mutate(change, {
      onError: (cause) => {
        const { message, hint } = toApiError(cause);
        const field = Object.keys(change)[0] as keyof Settings | undefined;
        if (field) setRefused({ field, message, hint });
        else toastError(cause);
      },
    });
  };
  const problemsOf = (field: keyof Settings) => (refused?.field === field ? [refused] : []);

  return (
    <div className="flex flex-col gap-4">
      <Card title="Look and keys">
        <div className="flex flex-col gap-4">
          <div className="flex flex-wrap items-center justify-between gap-3">
            <span className="text-ink-2 text-sm font-medium">Theme</span>
            <Segmented<Theme>
              label="Theme"
              value={settings.theme}
              options={[
                { value: 'system', label: 'As the desktop' },
                { value: 'light', label: 'Light' },
                { value: 'dark', label: 'Dark' },
              ]}
              onValue={(theme) => {
                themeStore.set(theme);
                save({ theme });
              }}
            />
          </div>
          <SwitchRow
            label="Keys without Ctrl are shortcuts"
            hint="Such as G then Q for the queue. Press ? for all of them."
            isOn={hasSingleKeys}
            onChange={(isOn) => singleKeysStore.set(isOn)}
          />
        </div>
      </Card>
      <Card title="Defaults of a request">
        <div className="flex flex-col gap-4">
          <ModelPicker
            value={settings.default_model}
            onValue={(default_model) => save({ default_model })}
            problems={problemsOf('default_model')}
          />
          {animators.length > 0 && (
            <ModelPicker
              label="Model that makes pictures move"
              value={settings.clip_model ?? firstAnimator ?? null}
              isOffered={(model) => animates(model.capabilities)}
              onValue={(clip_model) => save({ clip_model })}
              problems={problemsOf('clip_model')}
            />
          )}
          <div className="grid gap-4 sm:grid-cols-2">
            <SavedNumber
              label="Pictures per request"
              value={settings.default_copies}
              min={1}
              max={64}
              problems={problemsOf('default_copies')}
              onSave={(default_copies) => save({ default_copies })}
            />
            <Field label="File format" problems={problemsOf('format')}>
              {(attributes) => (
                <Select
                  {...attributes}
                  value={settings.format}
                  options={pictureFormats}
                  onValue={(format) => save({ format: format as ImageFormat })}
                />
              )}
            </Field>
            <Field label="File format of clips" problems={problemsOf('clip_format')}>
              {(attributes) => (
                <Select
                  {...attributes}
                  value={settings.clip_format}
                  options={clipFormats}
                  onValue={(format) => save({ clip_format: format as ClipFormat })}
                />
              )}
            </Field>
          </div>
          <Template
            key={settings.output_template}
            value={settings.output_template}
            problems={problemsOf('output_template')}
            onSave={(output_template) => save({ output_template })}
          />
        </div>
      </Card>
      <Card title="Keeping">
        <div className="grid gap-4 sm:grid-cols-2">
          <SavedNumber
            label="Days in the trash"
            hint="After that, deleted pictures go for good."
            value={settings.trash_days}
            min={1}
            max={30}
            problems={problemsOf('trash_days')}
            onSave={(trash_days) => save({ trash_days })}
          />
          <SavedNumber
            label="Lines of log to keep"
            value={settings.max_log_entries}
            min={100}
            max={100_000}
            problems={problemsOf('max_log_entries')}
            onSave={(max_log_entries) => save({ max_log_entries })}
          />
        </div>
      </Card>
    </div>
  );
}

/** A number that is saved when the field is left, so that half of it is not. */
function SavedNumber({
  label,
  hint,
  value,
  min,
  max,
  problems,
  onSave,
}: {
  label: string;
  hint?: string;
  value: number;
  min: number;
  max: number;
  problems: { message: string; hint: string }[];
  onSave(value: number): void;
}) {
  const [draft, setDraft] = useState<number | null>(value);
  const commit = () => {
    if (draft !== null && draft !== value) onSave(draft);
    if (draft === null) setDraft(value);
  };
  return (
    <Field label={label} hint={hint} problems={problems}>
      {(attributes) => (
        <NumberInput
          {...attributes}
          value={draft}
          min={min}
          max={max}
          onValue={setDraft}
          onBlur={commit}
          onKeyDown={(event) => event.key === 'Enter' && commit()}
        />
      )}
    </Field>
  );
}

function Template({
  value,
  problems,
  onSave,
}: {
  value: string;
  problems: { message: string; hint: string }[];
  onSave(value: string): void;
}) {
  const [draft, setDraft] = useState(value);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        onSave(draft);
      }}
    >
      <Field
        label="Names of files"
        hint="{date} {time} {seed} {prompt(50)} {model} {width} {height} {copy}; a / makes a folder"
        problems={problems}
      >
        {(attributes) => (
          <div className="flex gap-2">
            <TextInput
              {...attributes}
              spellCheck={false}
              className="font-mono text-sm"
              value={draft}
              onChange={(event) => setDraft(event.target.value)}
            />
            <Button type="submit" disabled={draft === value}>
              Save
            </Button>
          </div>
        )}
      </Field>
    </form>
  );
}
