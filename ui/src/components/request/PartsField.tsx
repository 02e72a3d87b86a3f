// Files that stand for parts of the model instead of its own: its text encoders, its VAE, its
// experts. Which parts there are and which files fit is the server's answer.
import { useId } from 'react';

import { useConfig, useModelParts } from '@/api/queries';
import type { ModelComponent } from '@/api/types';
import { ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { Field, Messages } from '@/components/ui/Field';
import { Select, type Option } from '@/components/ui/Select';
import { formatBytes } from '@/lib/format';
import { isUsable } from './ability';
import { messagesOf, type RequestFieldsProps } from './RequestFields';

/** `vae/ae.safetensors` as its name and its folder. */
function splitPath(path: string): { name: string; folder: string } {
  const at = path.lastIndexOf('/');
  return { name: path.slice(at + 1), folder: path.slice(0, Math.max(0, at)) };
}

/** What a part can be: the model's own, the files that fit, and the chosen one if it does not. */
export function partOptions(
  { file, choices }: Pick<ModelComponent, 'file' | 'choices'>,
  chosen: string | undefined,
): Option<string>[] {
  const options: Option<string>[] = [
    { value: '', label: 'As in the model', about: file },
    ...choices.map(({ name: path, bytes }) => {
      const { name, folder } = splitPath(path);
      const about = folder ? `in ${folder}` : undefined;
      return { value: path, label: name, detail: formatBytes(bytes), about };
    }),
  ];
  if (chosen && !options.some(({ value }) => value === chosen))
    options.push({
      value: chosen,
      label: splitPath(chosen).name,
      about: 'not in the list of files',
    });
  return options;
}

/** Names as a sentence lists them. */
const listed = (names: string[]) =>
  names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;

export function PartsField({ draft, model, onChange, ...about }: RequestFieldsProps) {
  const id = useId();
  const { data, error, refetch } = useModelParts(model.id, isUsable(model));
  const { components } = draft;
  const change = (part: string, file: string) => {
    const others = Object.entries(components).filter(([name]) => name !== part);
    onChange({ components: Object.fromEntries(file ? [...others, [part, file]] : others) });
  };

  if (!isUsable(model)) return null;
  const parts = data?.components ?? [];
  // What was chosen for a part that this model lacks stays in sight, so that one can take it away.
  const lost = Object.keys(components)
    .filter((name) => data && parts.every(({ component }) => component !== name))
    .map((name): ModelComponent => ({ component: name, title: name, file: '', choices: [] }));
  const isChosen = ({ component }: ModelComponent) => component in components;
  const open = [...parts, ...lost].filter((part) => part.choices.length > 0 || isChosen(part));
  const bare = parts.filter((part) => !open.includes(part)).map(({ title }) => title);
  if (data && !open.length && !bare.length) return null;

  return (
    <div role="group" aria-labelledby={id} className="flex min-w-0 flex-col gap-3">
      <span id={id} className="text-ink-2 text-sm font-medium">
        Parts of the model
      </span>
      {error ? (
        <ErrorNotice error={error} onRetry={() => void refetch()} />
      ) : !data ? (
        <Skeleton className="h-9" />
      ) : (
        <>
          {open.map((part) => (
            <Field
              key={part.component}
              label={part.title}
              {...messagesOf(about, `components.${part.component}`)}
            >
              {(attributes) => (
                <Select
                  {...attributes}
                  value={components[part.component] ?? ''}
                  options={partOptions(part, components[part.component])}
                  onValue={(file) => change(part.component, file)}
                />
              )}
            </Field>
          ))}
          {bare.length > 0 && <NoFiles parts={bare} />}
        </>
      )}
      <Messages {...messagesOf(about, 'components')} />
    </div>
  );
}

/** What to do where nothing can be chosen yet. */
function NoFiles({ parts }: { parts: string[] }) {
  const { data } = useConfig();
  const folder = data?.values.find(({ key }) => key === 'models_dir')?.value;
  return (
    <p className="text-ink-3 text-xs [overflow-wrap:anywhere]">
      No other file fits as {listed(parts)}. Put files into <code>vae</code>,{' '}
      <code>text_encoders</code> or <code>clip_vision</code> of{' '}
      {folder ? <code>{folder}</code> : 'the models folder'}: what fits appears here.
    </p>
  );
}
