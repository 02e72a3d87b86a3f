// On or off.
import { Switch as Radix } from 'radix-ui';
import { useId, type ReactNode } from 'react';

export function SwitchRow({
  label,
  hint,
  isOn,
  onChange,
}: {
  label: ReactNode;
  hint?: ReactNode;
  isOn: boolean;
  onChange(isOn: boolean): void;
}) {
  const id = useId();
  return (
    <div className="flex items-center justify-between gap-3">
      <label htmlFor={id} className="text-ink-2 text-sm font-medium">
        {label}
        {hint && <span className="text-ink-3 block text-xs font-normal">{hint}</span>}
      </label>
      <Radix.Root
        id={id}
        checked={isOn}
        onCheckedChange={onChange}
        className="bg-hover border-edge data-[state=checked]:bg-lamp data-[state=checked]:border-lamp h-6 w-10 shrink-0 rounded-full border transition-colors"
      >
        <Radix.Thumb className="bg-ink data-[state=checked]:bg-on-lamp block size-4 translate-x-1 rounded-full transition-transform data-[state=checked]:translate-x-5" />
      </Radix.Root>
    </div>
  );
}
