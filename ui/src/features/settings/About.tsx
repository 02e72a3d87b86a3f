// What this is, and where to read on.
import { BookOpen } from 'lucide-react';

import { host } from '@/api/host';
import { useSystem } from '@/api/queries';
import { Mark } from '@/components/icons';
import { Button } from '@/components/ui/Button';
import { Card } from '@/components/ui/Page';

export function About() {
  const { data: system } = useSystem();
  return (
    <Card>
      <div className="flex items-center gap-4">
        <Mark size={56} />
        <div>
          <p className="text-xl font-semibold tracking-tight">Kinora</p>
          <p className="text-ink-2 tnum">
            {system ? `Version ${system.version} on ${system.host}` : 'A studio for pictures'}
          </p>
        </div>
      </div>
      <p className="text-ink-2 mt-4 max-w-[60ch]">
        Pictures from prompts, on your own machine. Named after the hand-cranked reel of cards that
        showed moving pictures to one person at a time.
      </p>
      <div className="mt-4 flex flex-wrap gap-2">
        <Button
          icon={<BookOpen size={16} aria-hidden="true" />}
          onClick={() => void host.openExternal(host.pageUrl('/docs'))}
        >
          Documentation of the API
        </Button>
      </div>
      <p className="text-ink-3 mt-5 text-xs">
        Open source, MIT or Apache-2.0. Typeface Geist by Vercel and basement.studio under the SIL
        Open Font License; icons from Lucide under the ISC licence.
      </p>
    </Card>
  );
}
