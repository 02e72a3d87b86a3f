// Everything below the words of a request, in one order on all pages.
import type { ReactNode } from 'react';

import { Skeleton } from '@/components/ui/Feedback';
import { ClipFields, ShiftField, TilingField } from './ClipFields';
import { LoraField } from './LoraField';
import { PartsField } from './PartsField';
import {
  AdvancedFields,
  CopiesField,
  Fold,
  GuidanceFields,
  NegativePrompt,
  SeedField,
  SizeField,
  StepsField,
  type RequestFieldsProps,
} from './RequestFields';
import { SessionField } from './SessionField';

interface RequestSettingsProps {
  /** Undefined until the model is known. */
  fields: RequestFieldsProps | undefined;
  /** The result on the stage, as a reference. */
  staged: string | null;
}

export function RequestSettings({ fields, staged }: RequestSettingsProps) {
  if (!fields) {
    return (
      <>
        <Skeleton className="h-40" />
        <Skeleton className="h-10" />
        <Skeleton className="h-10" />
      </>
    );
  }
  const { draft, onChange } = fields;
  return (
    <>
      <NegativePrompt {...fields} />
      <SizeField {...fields} />
      <ClipFields {...fields} staged={staged} />
      <SeedField {...fields} />
      <StepsField {...fields} />
      <GuidanceFields {...fields} />
      <CopiesField {...fields} />
      <LoraField {...fields} />
      <Advanced fields={fields}>
        <SessionField value={draft.session} onValue={(session) => onChange({ session })} />
      </Advanced>
    </>
  );
}

/** Members of a request that have their place in the fold, or begin with one of these. */
const FOLDED = [
  'sampler',
  'schedule',
  'rng',
  'step_cache',
  'format',
  'output_name',
  'video.shift',
  'video.vae_tiling',
  'components',
];

/** What is seldom changed, folded away. */
export function Advanced({
  fields,
  children,
}: {
  fields: RequestFieldsProps;
  children?: ReactNode;
}) {
  const isFolded = (field: string) =>
    FOLDED.some((member) => field === member || field.startsWith(`${member}.`));
  return (
    <Fold
      title="Advanced"
      hasProblem={fields.problems.some(({ field }) => field && isFolded(field))}
    >
      <div className="flex flex-col gap-4">
        {children}
        <AdvancedFields {...fields} />
        <ShiftField {...fields} />
        <TilingField {...fields} />
        <PartsField {...fields} />
      </div>
    </Fold>
  );
}
