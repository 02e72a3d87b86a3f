// Writing a list: the text, what was understood, what rows without a value get, and Run.
import { FolderOpen, Play, X } from 'lucide-react';
import { lazy, Suspense, useEffect, useMemo, useRef, useState } from 'react';
import { useNavigate } from 'react-router';

import { useCommand } from '@/api/client';
import { ApiError } from '@/api/error';
import { useBulkCheck, useModel, useSettings } from '@/api/queries';
import type { BulkInput, Problem, RequestInput } from '@/api/types';
import { EstimateLine } from '@/components/domain/EstimateLine';
import { BulkIcon } from '@/components/icons';
import { fitDraft } from '@/components/request/ability';
import { takeList } from '@/components/take-list';
import { toastError, toastNotes } from '@/components/toast';
import { Button, IconButton } from '@/components/ui/Button';
import { Badge, EmptyState, Skeleton } from '@/components/ui/Feedback';
import { Keys } from '@/components/ui/Keys';
import { Segmented } from '@/components/ui/Segmented';
import { Tooltip } from '@/components/ui/Tooltip';
import { bulkStore, updateBulk } from '@/lib/bulk-draft';
import { draftRequest } from '@/lib/draft';
import { cx } from '@/lib/cx';
import { plural } from '@/lib/format';
import { useDebounced, useLatest } from '@/lib/hooks';
import { matchesChord } from '@/lib/keys';
import { useStore } from '@/lib/store';
import { ComposeAside } from './ComposeAside';
import { AddPictures, RowPictures } from './RowPictures';
import type { EditorHandle } from './ListEditor';
import { ProblemList, RowsTable } from './RowsTable';

const ListEditor = lazy(() => import('./ListEditor'));

const CHECK_AFTER_MS = 320;

const FORMAT_NAME = { lines: 'One prompt per line', csv: 'CSV', tsv: 'TSV', jsonl: 'JSON lines' };

const HINT = `Paste prompts, one per line. Or a table:

prompt,season,seed,width,height
a red cabin in {season},winter,7,320,192
a white windmill in {season},spring|summer,,,`;

const EXAMPLE = `# Columns: prompt, negative, model, seed, width, height, steps, guidance, copies, output
# Any other column is a variable for the prompt. Several values: a|b|c. Empty means: the default.
prompt,season,seed,width,height,copies
"rolling hills in {season}, a white windmill",spring|autumn,7,256,256,
"a red cabin by a frozen lake in {season}",winter,21,320,192,2
"a meadow with poppies in {season} rain",summer,,,,
`;

/** What the page sends; the server reads the list and says what it is. */
function useInput(): BulkInput | null {
  const draft = useStore(bulkStore);
  const { data: settings } = useSettings();
  const model = useModel(draft.defaults.model ?? settings?.default_model);
  return useMemo(
    () =>
      draft.text.trim()
        ? {
            text: draft.text,
            name: draft.name || null,
            combine: draft.combine,
            defaults: {
              ...(draftRequest(
                model ? fitDraft(draft.defaults, model.capabilities) : draft.defaults,
              ) as RequestInput),
              ...(draft.isDraft ? { draft: true } : {}),
            },
            ...(Object.keys(draft.pictures).length ? { pictures: draft.pictures } : {}),
            rows_limit: 2000,
          }
        : null,
    [draft, model],
  );
}

const noProblems: Problem[] = [];

export function Compose() {
  const draft = useStore(bulkStore);
  const input = useInput();
  const settled = useDebounced(input, CHECK_AFTER_MS);
  const check = useBulkCheck(settled);
  const submit = useCommand('bulk_submit');
  const navigate = useNavigate();
  const editor = useRef<EditorHandle>(null);
  const file = useRef<HTMLInputElement>(null);
  const [tab, setTab] = useState<'rows' | 'problems'>('rows');

  const found = settled ? check.data : undefined;
  const problems = found?.problems ?? noProblems;
  const shownTab = problems.length ? tab : 'rows';

  const run = useLatest(() => {
    if (!input || submit.isPending) return;
    submit.mutate(
      { ...input, rows_limit: null },
      {
        onSuccess: ({ batch, notes }) => {
          toastNotes(notes);
          void navigate(`/bulk/${batch}`);
        },
        onError: (error) => {
          toastError(error);
          if (error instanceof ApiError && error.problems.length) {
            setTab('problems');
            void check.refetch();
          }
        },
      },
    );
  });
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (!matchesChord(event, 'mod+enter')) return;
      event.preventDefault();
      run();
    };
    addEventListener('keydown', onKey, true);
    return () => removeEventListener('keydown', onKey, true);
  }, [run]);

  return (
    <div className="flex h-full min-h-0 flex-col max-lg:overflow-y-auto lg:grid lg:grid-cols-[minmax(0,1fr)_340px]">
      <div className="flex min-h-0 min-w-0 flex-col max-lg:shrink-0">
        <div className="flex flex-wrap items-center gap-2 px-4 pt-3 pb-2">
          <h1 className="mr-1 text-xl font-semibold tracking-tight">Bulk</h1>
          {draft.name && (
            <Badge>
              {draft.name}
              <button
                type="button"
                aria-label="Forget the file name"
                onClick={() => updateBulk({ name: '' })}
              >
                <X size={12} aria-hidden="true" />
              </button>
            </Badge>
          )}
          {found && <Badge tone="info">{FORMAT_NAME[found.format]}</Badge>}
          <div className="flex-1" />
          <Tooltip label="Rows with several values in several columns">
            <div>
              <Segmented
                label="Rows with several values in several columns"
                value={draft.combine}
                options={[
                  { value: 'product', label: 'All combinations' },
                  { value: 'zip', label: 'In pairs' },
                ]}
                onValue={(combine) => updateBulk({ combine })}
              />
            </div>
          </Tooltip>
          <input
            ref={file}
            type="file"
            hidden
            accept=".csv,.tsv,.txt,.jsonl,.ndjson,text/*"
            onChange={(event) => {
              const [chosen] = event.target.files ?? [];
              if (chosen) void takeList(chosen);
              event.target.value = '';
            }}
          />
          <AddPictures />
          <Button
            size="sm"
            icon={<FolderOpen size={15} aria-hidden="true" />}
            onClick={() => file.current?.click()}
          >
            Open file
          </Button>
          {draft.text && (
            <IconButton
              size="sm"
              label="Clear the list"
              onClick={() => updateBulk({ text: '', name: '' })}
            >
              <X size={16} aria-hidden="true" />
            </IconButton>
          )}
        </div>

        <RowPictures />
        <div className="border-line bg-field min-h-0 flex-[3] border-y max-lg:h-72 max-lg:flex-none">
          <Suspense fallback={<Skeleton className="size-full" />}>
            <ListEditor
              handle={editor}
              value={draft.text}
              onValue={(text) => updateBulk({ text })}
              problems={problems}
              hint={HINT}
            />
          </Suspense>
        </div>

        <div className="bg-panel flex min-h-0 flex-[2] flex-col max-lg:h-72 max-lg:flex-none">
          <div className="flex h-10 shrink-0 items-center gap-2 px-3" aria-live="polite">
            {(['rows', 'problems'] as const).map((name) => {
              const count = name === 'rows' ? (found?.total_rows ?? 0) : problems.length;
              const isOn = shownTab === name;
              if (name === 'problems' && !count) return null;
              return (
                <button
                  key={name}
                  type="button"
                  aria-pressed={isOn}
                  onClick={() => setTab(name)}
                  className={cx(
                    'h-7 rounded-md px-2 text-sm font-medium',
                    isOn && 'bg-raised',
                    name === 'problems'
                      ? 'text-bad'
                      : isOn
                        ? 'text-ink'
                        : 'text-ink-2 hover:text-ink',
                  )}
                >
                  {name === 'rows' ? plural(count, 'row') : plural(count, 'problem')}
                </button>
              );
            })}
            {check.isFetching && <span className="text-ink-3 text-xs">Checking…</span>}
          </div>
          <div className="min-h-0 flex-1">
            {check.error && settled ? (
              <p role="alert" className="text-bad px-4 py-2 text-sm">
                {check.error.message}
              </p>
            ) : !found ? (
              <EmptyState
                className="h-full py-4"
                icon={<BulkIcon size={30} />}
                title="A list becomes pictures"
                action={
                  <Button size="sm" onClick={() => updateBulk({ text: EXAMPLE, name: '' })}>
                    Start from an example
                  </Button>
                }
              >
                Paste or drop lines, CSV, TSV from a spreadsheet, or JSON lines. Every row is
                checked before anything is queued.
              </EmptyState>
            ) : shownTab === 'problems' ? (
              <ProblemList problems={problems} onJump={(line) => editor.current?.jumpTo(line)} />
            ) : (
              <RowsTable check={found} onJump={(line) => editor.current?.jumpTo(line)} />
            )}
          </div>
        </div>

        <div className="bg-panel border-line flex min-h-16 shrink-0 flex-wrap items-center gap-3 border-t px-4 py-2 max-lg:sticky max-lg:bottom-0">
          <div className="min-w-0 flex-1">
            <p className="font-medium">
              {found
                ? problems.length
                  ? `${plural(problems.length, 'problem')} to put right first`
                  : `${plural(found.total_rows, 'row')}, ${plural(found.pictures, 'picture')}`
                : 'No rows yet'}
            </p>
            {found?.estimate && <EstimateLine estimate={found.estimate} />}
          </div>
          <Button
            variant="primary"
            size="lg"
            isBusy={submit.isPending}
            disabled={!found?.pictures || problems.length > 0 || settled !== input}
            icon={<Play size={17} aria-hidden="true" />}
            onClick={run}
          >
            Run the list
            <span className="hidden opacity-80 xl:inline [&_kbd]:border-current/25 [&_kbd]:bg-transparent [&_kbd]:text-current">
              <Keys chord="mod+enter" />
            </span>
          </Button>
        </div>
      </div>

      <ComposeAside />
    </div>
  );
}
