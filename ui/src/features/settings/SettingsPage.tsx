// Settings, in sections: what the user chose, where things lie, the machine, logs, space, about.
import { NavLink, useParams } from 'react-router';

import { Page } from '@/components/ui/Page';
import { cx } from '@/lib/cx';
import { About } from './About';
import { Folders } from './Folders';
import { General } from './General';
import { Logs } from './Logs';
import { Space } from './Space';
import { SystemSection } from './SystemSection';
import { Wildcards } from './Wildcards';

const SECTIONS = [
  { id: 'general', label: 'General', view: General },
  { id: 'wildcards', label: 'Wildcards', view: Wildcards },
  { id: 'folders', label: 'Folders and server', view: Folders },
  { id: 'system', label: 'System', view: SystemSection },
  { id: 'space', label: 'Disk space', view: Space },
  { id: 'logs', label: 'Logs', view: Logs },
  { id: 'about', label: 'About', view: About },
] as const;

/** On a phone the sections scroll sideways; the chosen one is to be in sight. */
function showSection(link: HTMLElement | null): void {
  link?.scrollIntoView({ block: 'nearest', inline: 'center' });
}

export default function SettingsPage() {
  const { section } = useParams();
  const chosen = SECTIONS.find(({ id }) => id === section) ?? SECTIONS[0];
  const View = chosen.view;
  return (
    <Page title="Settings" className="flex min-h-0 flex-col md:flex-row">
      <nav
        aria-label="Sections of the settings"
        className="flex shrink-0 gap-1 overflow-x-auto px-4 pb-2 md:w-52 md:flex-col md:overflow-visible md:px-4"
      >
        {SECTIONS.map(({ id, label }) => (
          <NavLink
            key={id}
            to={`/settings/${id}`}
            ref={id === chosen.id ? showSection : undefined}
            aria-current={id === chosen.id ? 'page' : undefined}
            className={cx(
              'shrink-0 rounded-md px-3 py-1.5 text-base font-medium whitespace-nowrap',
              id === chosen.id ? 'bg-raised text-ink' : 'text-ink-2 hover:bg-raised hover:text-ink',
            )}
          >
            {label}
          </NavLink>
        ))}
      </nav>
      <div className="min-h-0 min-w-0 flex-1 overflow-y-auto px-4 pb-8 md:pr-6 md:pl-2">
        <div className="max-w-3xl">
          <View />
        </div>
      </div>
    </Page>
  );
}
