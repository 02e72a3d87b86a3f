// Models: what there is, what it is good at, what it needs, and whether it is here.
import { ExternalLink, Search } from 'lucide-react';
import { useState } from 'react';
import { useNavigate } from 'react-router';

import { useCommand } from '@/api/client';
import { host } from '@/api/host';
import { useModels, useSystem } from '@/api/queries';
import type { Model } from '@/api/types';
import { ModelsIcon } from '@/components/icons';
import { matchesModel, ModelState } from '@/components/request/ModelPicker';
import { toastError } from '@/components/toast';
import { Button } from '@/components/ui/Button';
import { Badge, EmptyState, ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { TextInput } from '@/components/ui/Field';
import { Page } from '@/components/ui/Page';
import { chooseModel, updateDraft } from '@/lib/draft';
import { formatBytes, titleCase } from '@/lib/format';

/** Categories in the order in which they first occur in the catalogue. */
export function byCategory(models: Model[]): [string, Model[]][] {
  const groups = new Map<string, Model[]>();
  for (const model of models) {
    groups.set(model.category, [...(groups.get(model.category) ?? []), model]);
  }
  return [...groups];
}

export default function ModelsPage() {
  const { data, error, isPending, refetch } = useModels();
  const { data: system } = useSystem();
  const [search, setSearch] = useState('');
  const found = (data?.models ?? []).filter((model) => matchesModel(model, search));

  return (
    <Page
      title="Models"
      about="Put model files into the models folder and they show up here."
      actions={
        <div className="relative w-64 max-w-full">
          <Search
            size={15}
            className="text-ink-3 absolute top-1/2 left-2.5 -translate-y-1/2"
            aria-hidden="true"
          />
          <TextInput
            type="search"
            aria-label="Search models"
            placeholder="Search models"
            className="!pl-8"
            value={search}
            onChange={(event) => setSearch(event.target.value)}
          />
        </div>
      }
      className="overflow-y-auto px-4 pb-8 md:px-6"
    >
      {error ? (
        <ErrorNotice error={error} onRetry={() => void refetch()} />
      ) : isPending ? (
        <Skeleton className="h-52 max-w-md" />
      ) : !found.length ? (
        <EmptyState
          icon={<ModelsIcon size={36} />}
          title={search ? 'No model matches' : 'No models'}
        >
          {search ? 'Try fewer words.' : 'The built-in model is missing; install Kinora again.'}
        </EmptyState>
      ) : (
        byCategory(found).map(([category, models]) => (
          <section key={category} className="mb-7" aria-labelledby={`category-${category}`}>
            <h2 id={`category-${category}`} className="text-ink-2 mb-2.5 text-sm font-medium">
              {titleCase(category)}
            </h2>
            <ul className="grid grid-cols-[repeat(auto-fill,minmax(min(100%,21rem),1fr))] gap-3">
              {models.map((model) => (
                <li key={model.id}>
                  <ModelCard
                    model={model}
                    isDefault={model.id === data.default}
                    memory={system?.memory.total}
                  />
                </li>
              ))}
            </ul>
          </section>
        ))
      )}
      {!search && !!data?.faults?.length && (
        <section className="mb-7" aria-labelledby="unusable-files">
          <h2 id="unusable-files" className="text-ink-2 mb-2.5 text-sm font-medium">
            Files that cannot be used
          </h2>
          <ul className="bg-panel border-line divide-line divide-y rounded-lg border text-sm">
            {data.faults.map(({ path, reason }) => (
              <li key={`${path} ${reason}`} className="px-4 py-2.5">
                <p className="font-medium break-all">{path}</p>
                <p className="text-ink-2 mt-0.5">Not used: {reason}.</p>
              </li>
            ))}
          </ul>
        </section>
      )}
    </Page>
  );
}

function ModelCard({
  model,
  isDefault,
  memory,
}: {
  model: Model;
  isDefault: boolean;
  memory: number | undefined;
}) {
  const navigate = useNavigate();
  const update = useCommand('settings_update');
  const isTooLarge = memory !== undefined && model.memory_bytes > memory;
  const isUsable = model.is_installed && !model.fault;
  const { capabilities } = model;
  const facts: [string, string][] = [
    [model.is_installed ? 'On disk' : 'Download', formatBytes(model.bytes)],
    ['Memory', formatBytes(model.memory_bytes)],
    ['Largest side', `${capabilities.size.max} px`],
    ['Steps', String(model.defaults.steps)],
  ];
  return (
    <article className="bg-panel border-line flex h-full flex-col rounded-lg border p-4">
      <div className="flex items-start gap-2">
        <h3 className="min-w-0 flex-1 text-lg font-semibold">{model.name}</h3>
        {isDefault && <Badge tone="lamp">Default</Badge>}
        <ModelState model={model} />
      </div>
      <p className="text-ink-2 mt-1 text-sm">{model.description}</p>
      <ul className="mt-2.5 flex flex-wrap gap-1" aria-label="Tags">
        {model.tags.map((tag) => (
          <li key={tag}>
            <Badge>{tag}</Badge>
          </li>
        ))}
      </ul>
      {model.fault && (
        <p role="alert" className="text-bad mt-3 text-sm">
          Cannot be used: {model.fault}
        </p>
      )}
      {isTooLarge && (
        <p className="text-warn mt-3 text-sm">
          Needs {formatBytes(model.memory_bytes)} of memory; this machine has {formatBytes(memory)}.
        </p>
      )}
      <dl className="tnum mt-4 grid grid-cols-4 gap-2 text-sm">
        {facts.map(([label, value]) => (
          <div key={label}>
            <dt className="text-ink-3 text-xs">{label}</dt>
            <dd className="whitespace-nowrap">{value}</dd>
          </div>
        ))}
      </dl>
      <div className="mt-auto flex flex-wrap gap-2 pt-4">
        {isUsable && (
          <Button
            size="sm"
            variant="primary"
            onClick={() => {
              updateDraft(chooseModel(model.id));
              void navigate('/create');
            }}
          >
            Use it
          </Button>
        )}
        {isUsable && !isDefault && (
          <Button
            size="sm"
            onClick={() => update.mutate({ default_model: model.id }, { onError: toastError })}
          >
            Make it the default
          </Button>
        )}
        {!model.is_installed && model.approval_url && (
          <Button
            size="sm"
            icon={<ExternalLink size={14} aria-hidden="true" />}
            onClick={() => void host.openExternal(model.approval_url!)}
          >
            Accept its licence
          </Button>
        )}
      </div>
    </article>
  );
}
