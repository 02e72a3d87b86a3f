// What the gallery is narrowed down by besides words.
import { useModels, useSessions } from '@/api/queries';
import { Select } from '@/components/ui/Select';

export function ModelFilter({ value, onValue }: { value: string; onValue(value: string): void }) {
  const { data } = useModels();
  return (
    <Select
      aria-label="Model"
      className="w-40 max-sm:order-2 max-sm:flex-1"
      value={value}
      options={[
        { value: '', label: 'Every model' },
        ...(data?.models ?? []).map(({ id, name }) => ({ value: id, label: name })),
      ]}
      onValue={onValue}
    />
  );
}

export function SessionFilter({ value, onValue }: { value: string; onValue(value: string): void }) {
  const { data } = useSessions();
  return (
    <Select
      aria-label="Session"
      className="w-44 max-sm:order-2 max-sm:flex-1"
      value={value}
      options={[
        { value: '', label: 'Every session' },
        ...(data?.items ?? []).map(({ id, title }) => ({ value: id, label: title || 'Untitled' })),
      ]}
      onValue={onValue}
    />
  );
}
