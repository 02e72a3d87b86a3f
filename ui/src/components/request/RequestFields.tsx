// The members of a request as a form, drawn from what the model can do. There is no rule about any
// model in here: a control appears when its capability is there.
import { ChevronRight, Dices, Lock, LockOpen } from 'lucide-react';
import { Collapsible } from 'radix-ui';
import { useState, type ReactNode } from 'react';

import type { Model, Note, Problem } from '@/api/types';
import { IconButton } from '@/components/ui/Button';
import { Field, TextInput, type FieldMessages } from '@/components/ui/Field';
import { Select } from '@/components/ui/Select';
import { SliderField } from '@/components/ui/Slider';
import { cx } from '@/lib/cx';
import type { Draft } from '@/lib/draft';
import { samplingName } from '@/lib/format';
import { randomSeed, readSeed } from '@/lib/seed';
import { PromptArea } from './PromptArea';
import { clipFormats, makesClip, pictureFormats, takesImage } from './ability';
import { SizePicker } from './SizePicker';

export interface RequestFieldsProps {
  draft: Draft;
  model: Model;
  /** How many pictures a request without a number makes. */
  defaultCopies: number;
  defaultFormat: string;
  defaultTemplate: string;
  problems: Problem[];
  notes: Note[];
  onChange(change: Partial<Draft>): void;
}

/** What is said about one of these members. */
export function messagesOf(
  { problems, notes }: { problems: Problem[]; notes: Note[] },
  ...fields: string[]
): FieldMessages {
  return {
    problems: problems.filter((problem) => problem.field && fields.includes(problem.field)),
    notes: notes
      .filter((note) => note.field && fields.includes(note.field))
      .map((note) => note.message),
  };
}

export function NegativePrompt({ draft, model, onChange, ...about }: RequestFieldsProps) {
  const { true_cfg, cfg_always } = model.capabilities;
  if (!true_cfg) return null;
  return (
    <Field label="Negative prompt" {...messagesOf(about, 'negative_prompt')}>
      {(attributes) => (
        <PromptArea
          {...attributes}
          rows={2}
          hasWeights={model.capabilities.prompt_weights}
          placeholder={
            cfg_always
              ? 'What to keep away from.'
              : 'What to keep away from. It doubles the time of each step.'
          }
          value={draft.negative_prompt}
          onValue={(value) => onChange({ negative_prompt: value })}
        />
      )}
    </Field>
  );
}

export function SizeField({ draft, model, onChange, ...about }: RequestFieldsProps) {
  return (
    <SizePicker
      rule={model.capabilities.size}
      fallback={model.defaults}
      isLikePicture={draft.image !== null && takesImage(model.capabilities)}
      width={draft.width}
      height={draft.height}
      onValue={(width, height) => onChange({ width, height })}
      {...messagesOf(about, 'width', 'height', 'size')}
    />
  );
}

export function SeedField({ draft, onChange, ...about }: RequestFieldsProps) {
  const [text, setText] = useState<string | null>(null);
  const isLocked = draft.seed !== null;
  return (
    <Field label="Seed" {...messagesOf(about, 'seed')}>
      {(attributes) => (
        <div className="flex gap-1">
          <TextInput
            {...attributes}
            inputMode="numeric"
            autoComplete="off"
            className="tnum"
            placeholder="Random each time"
            value={text ?? (draft.seed === null ? '' : String(draft.seed))}
            onChange={(event) => {
              setText(event.target.value);
              const seed = readSeed(event.target.value);
              if (seed !== undefined) onChange({ seed });
            }}
            onBlur={() => setText(null)}
          />
          <IconButton
            label="New random seed, and keep it"
            onClick={() => onChange({ seed: randomSeed() })}
          >
            <Dices size={17} aria-hidden="true" />
          </IconButton>
          <IconButton
            label={isLocked ? 'Unlock: a random seed each time' : 'Lock: keep one seed'}
            isPressed={isLocked}
            onClick={() => onChange({ seed: isLocked ? null : randomSeed() })}
          >
            {isLocked ? (
              <Lock size={16} aria-hidden="true" />
            ) : (
              <LockOpen size={16} aria-hidden="true" />
            )}
          </IconButton>
        </div>
      )}
    </Field>
  );
}

export function StepsField({ draft, model, onChange, ...about }: RequestFieldsProps) {
  const { steps } = model.capabilities;
  return (
    <SliderField
      label="Steps"
      value={draft.steps}
      fallback={model.defaults.steps}
      min={steps.min}
      max={steps.max}
      onValue={(value) => onChange({ steps: value })}
      {...messagesOf(about, 'steps')}
    />
  );
}

export function GuidanceFields({ draft, model, onChange, ...about }: RequestFieldsProps) {
  const { guidance, true_cfg, cfg_always } = model.capabilities;
  return (
    <>
      {guidance && (
        <SliderField
          label="Guidance"
          value={draft.guidance}
          fallback={model.defaults.guidance ?? guidance.default}
          min={guidance.min}
          max={guidance.max}
          step={0.1}
          onValue={(value) => onChange({ guidance: value })}
          {...messagesOf(about, 'guidance')}
        />
      )}
      {true_cfg && (cfg_always || draft.negative_prompt.trim() !== '') && (
        <SliderField
          label={cfg_always ? 'Guidance scale' : 'Negative guidance'}
          value={draft.true_cfg}
          fallback={true_cfg.default}
          min={true_cfg.min}
          max={true_cfg.max}
          step={0.1}
          onValue={(value) => onChange({ true_cfg: value })}
          {...messagesOf(about, 'true_cfg')}
        />
      )}
    </>
  );
}

export function CopiesField({
  draft,
  model,
  defaultCopies,
  onChange,
  ...about
}: RequestFieldsProps) {
  const { copies } = model.capabilities;
  return (
    <SliderField
      label={makesClip(model.capabilities, draft) ? 'Clips' : 'Pictures'}
      value={draft.copies}
      fallback={defaultCopies}
      min={copies.min}
      max={copies.max}
      sliderMax={Math.min(copies.max, 16)}
      onValue={(value) => onChange({ copies: value })}
      {...messagesOf(about, 'copies')}
    />
  );
}

export function AdvancedFields({
  draft,
  model,
  defaultFormat,
  defaultTemplate,
  onChange,
  ...about
}: RequestFieldsProps) {
  const { samplers, schedules, step_cache } = model.capabilities;
  const formats = makesClip(model.capabilities, draft) ? clipFormats : pictureFormats;
  // A format that was chosen for the other kind of result is not sent, and not shown.
  const format = formats.some(({ value }) => value === draft.format) ? draft.format : null;
  const choice = (key: 'sampler' | 'schedule', label: string, values: readonly string[]) => (
    <Field label={label} {...messagesOf(about, key)}>
      {(attributes) => (
        <Select
          {...attributes}
          value={draft[key] ?? values[0] ?? ''}
          options={values.map((value) => ({ value, label: samplingName(value) }))}
          onValue={(value) => onChange({ [key]: value === values[0] ? null : value })}
        />
      )}
    </Field>
  );
  return (
    <div className="flex flex-col gap-4">
      <div className="grid grid-cols-2 gap-3">
        {choice('sampler', 'Sampler', samplers)}
        {choice('schedule', 'Schedule', schedules)}
        <Field label="Noise" {...messagesOf(about, 'rng')}>
          {(attributes) => (
            <Select
              {...attributes}
              value={draft.rng ?? 'cpu'}
              options={[
                { value: 'cpu', label: 'CPU', detail: 'as ComfyUI' },
                { value: 'cuda', label: 'CUDA', detail: 'as A1111' },
              ]}
              onValue={(rng) => onChange({ rng: rng === 'cpu' ? null : rng })}
            />
          )}
        </Field>
        <Field label="File format" {...messagesOf(about, 'format')}>
          {(attributes) => (
            <Select
              {...attributes}
              value={format ?? defaultFormat}
              options={formats}
              onValue={(next) => onChange({ format: next === defaultFormat ? null : next })}
            />
          )}
        </Field>
      </div>
      {step_cache && (
        <SliderField
          label="Step reuse"
          value={draft.step_cache}
          fallback={step_cache.default}
          min={step_cache.min}
          max={step_cache.max}
          step={0.01}
          hint="Above 0, steps that hardly differ reuse an earlier one: 0.05 changes little, 0.2 saves much."
          onValue={(value) => onChange({ step_cache: value })}
          {...messagesOf(about, 'step_cache')}
        />
      )}
      <Field
        label="File name"
        hint="{date} {time} {seed} {prompt(50)} {model} {width} {height} {copy}; / makes folders"
        {...messagesOf(about, 'output_name')}
      >
        {(attributes) => (
          <TextInput
            {...attributes}
            className="font-mono text-sm"
            spellCheck={false}
            placeholder={defaultTemplate}
            value={draft.output_name ?? ''}
            onChange={(event) => onChange({ output_name: event.target.value || null })}
          />
        )}
      </Field>
    </div>
  );
}

/** A part of a form that is folded away until it is wanted. Opens itself when it has problems. */
export function Fold({
  title,
  hasProblem,
  children,
}: {
  title: string;
  hasProblem?: boolean;
  children: ReactNode;
}) {
  const [isOpen, setOpen] = useState(false);
  const shown = isOpen || Boolean(hasProblem);
  return (
    <Collapsible.Root open={shown} onOpenChange={setOpen}>
      <Collapsible.Trigger className="text-ink-2 hover:text-ink flex h-8 w-full items-center gap-1.5 rounded-md text-sm font-medium">
        <ChevronRight
          size={15}
          aria-hidden="true"
          className={cx('transition-transform', shown && 'rotate-90')}
        />
        {title}
      </Collapsible.Trigger>
      <Collapsible.Content className="pt-2">{children}</Collapsible.Content>
    </Collapsible.Root>
  );
}
