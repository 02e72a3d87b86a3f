// The machine, live: processor, memory, graphics, engine.
import { useSystem } from '@/api/queries';
import type { EngineState } from '@/api/types';
import { Badge, ErrorNotice, ProgressBar, Skeleton } from '@/components/ui/Feedback';
import { formatBytes, formatBytesOf, formatPercent } from '@/lib/format';

export const ENGINE: Record<
  EngineState,
  { label: string; tone: 'plain' | 'good' | 'lamp' | 'bad' | 'info' }
> = {
  stopped: { label: 'Not started yet', tone: 'plain' },
  starting: { label: 'Starting', tone: 'info' },
  idle: { label: 'Ready', tone: 'good' },
  running: { label: 'At work', tone: 'lamp' },
  unavailable: { label: 'Cannot be started', tone: 'bad' },
};

export function Meter({
  label,
  value,
  text,
  detail,
  isScarce,
}: {
  label: string;
  /** 0 to 1; null: not known. */
  value: number | null;
  text: string;
  detail?: string;
  /** Running out of it is trouble, as with memory; a processor at work is not. */
  isScarce?: boolean;
}) {
  return (
    <div>
      <div className="mb-1 flex justify-between gap-3 text-sm">
        <span className="font-medium">{label}</span>
        <span className="text-ink-2 tnum">{text}</span>
      </div>
      {value !== null && (
        <ProgressBar
          value={value}
          label={label}
          tone={isScarce && value > 0.92 ? 'bad' : 'info'}
          className="h-1.5"
        />
      )}
      {detail && <p className="text-ink-3 tnum mt-1 text-xs">{detail}</p>}
    </div>
  );
}

export function SystemMeters() {
  const { data: system, error, refetch } = useSystem(true);
  if (!system) {
    return error ? (
      <ErrorNotice error={error} onRetry={() => void refetch()} />
    ) : (
      <Skeleton className="h-40" />
    );
  }
  const { cpu, memory, gpus, engine } = system;
  const used = memory.total - memory.available;
  return (
    <div className="flex flex-col gap-4">
      <Meter
        label="Processor"
        value={cpu.used}
        text={formatPercent(cpu.used)}
        detail={`${cpu.name}, ${cpu.cores} cores`}
      />
      <Meter
        label="Memory"
        isScarce
        value={used / memory.total}
        text={formatBytesOf(used, memory.total)}
        detail={`${formatBytes(memory.available)} available`}
      />
      {gpus.map((gpu, index) => (
        <Meter
          key={`${gpu.name}-${index}`}
          label={gpu.name}
          value={gpu.used}
          text={gpu.used === null ? '' : formatPercent(gpu.used)}
          detail={[
            gpu.memory_total !== null &&
              gpu.memory_used !== null &&
              `${formatBytesOf(gpu.memory_used, gpu.memory_total)} memory`,
            gpu.memory_total === null && 'shares the main memory',
            gpu.temperature !== null && `${Math.round(gpu.temperature)} °C`,
            gpu.power !== null && `${Math.round(gpu.power)} W`,
            gpu.driver !== null && `driver ${gpu.driver}`,
          ]
            .filter(Boolean)
            .join(' · ')}
        />
      ))}
      <div className="flex items-start justify-between gap-3 text-sm">
        <div className="min-w-0">
          <p className="font-medium">Engine</p>
          <p className="text-ink-3 tnum text-xs">
            {[
              engine.device?.name,
              engine.models.length
                ? `${engine.models.join(', ')} loaded, ${formatBytes(engine.model_bytes)}`
                : 'no model loaded',
              engine.pid !== null &&
                `process ${engine.pid}${engine.resident ? `, ${formatBytes(engine.resident)}` : ''}`,
            ]
              .filter(Boolean)
              .join(' · ')}
          </p>
          {engine.last_failure && (
            <p className="text-warn mt-1 text-xs">
              It stopped the last time: {engine.last_failure}
            </p>
          )}
        </div>
        <Badge tone={ENGINE[engine.state].tone}>{ENGINE[engine.state].label}</Badge>
      </div>
    </div>
  );
}
