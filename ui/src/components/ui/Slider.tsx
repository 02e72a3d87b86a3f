// A slider with its number beside it, and a way back to the default.
import { RotateCcw } from 'lucide-react';
import { Slider as Radix } from 'radix-ui';

import { Field, type FieldMessages } from './Field';
import { NumberInput } from './NumberInput';
import { Tooltip } from './Tooltip';

interface SliderFieldProps extends FieldMessages {
  label: string;
  /** Null: the default. */
  value: number | null;
  fallback: number;
  min: number;
  max: number;
  /** Where the slider ends, when the number may go further. */
  sliderMax?: number;
  step?: number;
  hint?: string;
  onValue(value: number | null): void;
}

export function SliderField({
  label,
  value,
  fallback,
  min,
  max,
  sliderMax = max,
  step = 1,
  onValue,
  ...messages
}: SliderFieldProps) {
  const isChosen = value !== null && value !== fallback;
  return (
    <Field
      label={label}
      isInline
      {...messages}
      aside={
        isChosen && (
          <Tooltip label={`Back to the model’s default (${fallback})`}>
            <button
              type="button"
              aria-label={`Reset ${label.toLowerCase()} to ${fallback}`}
              onClick={() => onValue(null)}
              className="text-ink-3 hover:text-ink -my-1 grid size-6 place-items-center rounded-sm"
            >
              <RotateCcw size={13} aria-hidden="true" />
            </button>
          </Tooltip>
        )
      }
    >
      {(attributes) => (
        <div className="flex items-center gap-3">
          <Radix.Root
            className="relative flex h-6 min-w-0 flex-1 touch-none items-center select-none"
            min={min}
            max={sliderMax}
            step={step}
            value={[Math.min(sliderMax, Math.max(min, value ?? fallback))]}
            onValueChange={([next]) => onValue(next ?? null)}
          >
            <Radix.Track className="bg-hover relative h-1 grow rounded-full">
              <Radix.Range className="bg-lamp absolute h-full rounded-full" />
            </Radix.Track>
            <Radix.Thumb
              aria-label={label}
              className="border-lamp bg-panel block size-4 rounded-full border-2 shadow-sm"
            />
          </Radix.Root>
          <NumberInput
            {...attributes}
            className="!w-14 !px-1 text-center"
            value={value}
            placeholder={String(fallback)}
            min={min}
            max={max}
            step={step}
            onValue={onValue}
          />
        </div>
      )}
    </Field>
  );
}
