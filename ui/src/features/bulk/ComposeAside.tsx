// Beside the list: what a row gets that says nothing itself, and the lists that were run before.
import { useState } from 'react';
import { Link } from 'react-router';

import { useBatches, useModel, useSettings } from '@/api/queries';
import type { Batch, Problem } from '@/api/types';
import { CountsBar } from '@/components/domain/CountsBar';
import { usualFormat } from '@/components/request/ability';
import { ClipFields } from '@/components/request/ClipFields';
import { LoraField } from '@/components/request/LoraField';
import { ModelPicker } from '@/components/request/ModelPicker';
import {
  CopiesField,
  GuidanceFields,
  NegativePrompt,
  SizeField,
  StepsField,
} from '@/components/request/RequestFields';
import { Advanced } from '@/components/request/RequestSettings';
import { EmptyState, Skeleton } from '@/components/ui/Feedback';
import { Segmented } from '@/components/ui/Segmented';
import { SwitchRow } from '@/components/ui/Switch';
import { bulkStore, updateBulk } from '@/lib/bulk-draft';
import { chooseModel } from '@/lib/draft';
import { formatWhen } from '@/lib/format';
import { useStore } from '@/lib/store';

const noProblems: Problem[] = [];

export function ComposeAside() {
  const [side, setSide] = useState<'defaults' | 'earlier'>('defaults');
  return (
    <aside
      aria-label="Defaults and earlier lists"
      className="bg-panel border-line flex min-h-0 flex-col border-l max-lg:border-t"
    >
      <div className="p-3 pb-1">
        <Segmented<'defaults' | 'earlier'>
          label="Show"
          className="w-full"
          value={side}
          options={[
            { value: 'defaults', label: 'Defaults' },
            { value: 'earlier', label: 'Earlier lists' },
          ]}
          onValue={setSide}
        />
      </div>
      <div className="min-h-0 flex-1 overflow-y-auto p-4 pt-2">
        {side === 'defaults' ? <Defaults /> : <EarlierLists />}
      </div>
    </aside>
  );
}

function Defaults() {
  const { defaults, isDraft } = useStore(bulkStore);
  const { data: settings } = useSettings();
  const model = useModel(defaults.model ?? settings?.default_model);
  const change = (next: Partial<typeof defaults>) =>
    updateBulk({ defaults: { ...defaults, ...next } });
  if (!model) return <Skeleton className="h-72" />;
  const fields = {
    draft: defaults,
    model,
    defaultCopies: settings?.default_copies ?? 1,
    defaultFormat: usualFormat(model.capabilities, defaults, settings),
    defaultTemplate: settings?.output_template ?? '',
    problems: noProblems,
    notes: [],
    onChange: change,
  };
  return (
    <div className="flex flex-col gap-4">
      <p className="text-ink-3 text-xs">
        What a row gets where its cell is empty or has no column.
      </p>
      <SwitchRow
        label="Drafts first"
        hint="Small and fast tries. Make the good ones full in the gallery."
        isOn={isDraft}
        onChange={(isOn) => updateBulk({ isDraft: isOn })}
      />
      <ModelPicker value={defaults.model} onValue={(next) => change(chooseModel(next))} />
      <SizeField {...fields} />
      <ClipFields {...fields} staged={null} />
      <StepsField {...fields} />
      <GuidanceFields {...fields} />
      <CopiesField {...fields} />
      <NegativePrompt {...fields} />
      <LoraField {...fields} />
      <Advanced fields={fields} />
    </div>
  );
}

function EarlierLists() {
  const { data } = useBatches();
  const lists = (data?.items ?? []).filter((batch) => batch.kind === 'list');
  if (data && !lists.length) {
    return (
      <EmptyState className="py-8" title="No lists yet">
        Lists that you run stay here with their pictures.
      </EmptyState>
    );
  }
  return (
    <ul className="flex flex-col gap-1.5">
      {lists.map((batch) => (
        <li key={batch.id}>
          <EarlierList batch={batch} />
        </li>
      ))}
    </ul>
  );
}

function EarlierList({ batch }: { batch: Batch }) {
  const { counts } = batch;
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  return (
    <Link
      to={`/bulk/${batch.id}`}
      className="border-line hover:bg-raised block rounded-md border p-3"
    >
      <span className="flex items-baseline justify-between gap-3">
        <span className="truncate font-medium">{batch.title}</span>
        <span className="text-ink-3 shrink-0 text-xs">{formatWhen(batch.created_at)}</span>
      </span>
      <CountsBar counts={counts} className="my-2" />
      <span className="text-ink-2 tnum text-xs">
        {counts.done} of {total}
        {counts.failed > 0 && <span className="text-bad"> · {counts.failed} failed</span>}
      </span>
    </Link>
  );
}
