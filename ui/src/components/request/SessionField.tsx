// Which session results belong to.
import { useSessions } from '@/api/queries';
import { Field } from '@/components/ui/Field';
import { Select } from '@/components/ui/Select';

export function SessionField({
  value,
  onValue,
}: {
  value: string | null;
  onValue(value: string | null): void;
}) {
  const { data } = useSessions();
  return (
    <Field
      label="Session"
      hint="Results that belong together. A new one is named after its prompt."
    >
      {(attributes) => (
        <Select
          {...attributes}
          value={value ?? ''}
          options={[
            { value: '', label: 'New session' },
            ...(data?.items ?? []).map((session) => ({
              value: session.id,
              label: session.title || 'Untitled',
            })),
          ]}
          onValue={(session) => onValue(session || null)}
        />
      )}
    </Field>
  );
}
