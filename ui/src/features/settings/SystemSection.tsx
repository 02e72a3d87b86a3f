// The machine and what Kinora does with it, live.
import { useSystem } from '@/api/queries';
import { SystemMeters } from '@/components/domain/SystemMeters';
import { Card } from '@/components/ui/Page';
import { formatBytes, formatDuration } from '@/lib/format';

export function SystemSection() {
  const { data: system } = useSystem(true);
  const facts: [string, string][] = system
    ? [
        ['Machine', system.host],
        ['System', `${system.os}, ${system.arch}`],
        ['Running for', formatDuration(system.uptime_seconds)],
        ['Memory of the studio', formatBytes(system.memory.process)],
        ['Version', system.version],
      ]
    : [];
  return (
    <div className="flex flex-col gap-4">
      <Card title="Live">
        <SystemMeters />
      </Card>
      <Card title="This machine">
        <dl className="grid grid-cols-[11rem_minmax(0,1fr)] gap-y-1.5 text-sm">
          {facts.map(([label, value]) => (
            <div key={label} className="contents">
              <dt className="text-ink-3">{label}</dt>
              <dd className="tnum">{value}</dd>
            </div>
          ))}
        </dl>
      </Card>
    </div>
  );
}
