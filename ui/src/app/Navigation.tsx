// The rail on wide screens, the bar at the bottom on phones.
import { Ellipsis } from 'lucide-react';
import { NavLink, useLocation, useNavigate } from 'react-router';

import { useQueue } from '@/api/queries';
import { Mark } from '@/components/icons';
import { Menu } from '@/components/ui/Menu';
import { cx } from '@/lib/cx';
import { places } from './places';

function QueueDot() {
  const { data } = useQueue();
  if (!data?.counts.running) return null;
  return (
    <span
      className="bg-lamp absolute top-1 right-1/2 size-1.5 translate-x-4 rounded-full"
      aria-hidden="true"
    />
  );
}

const linkClass = (isActive: boolean) =>
  cx(
    'relative flex flex-col items-center justify-center gap-1 rounded-lg text-xs font-medium transition-colors',
    isActive ? 'text-ink bg-raised' : 'text-ink-3 hover:text-ink hover:bg-raised',
  );

export function Rail() {
  return (
    <nav
      aria-label="Main"
      className="bg-panel border-line hidden w-[76px] shrink-0 flex-col gap-1 border-r px-1.5 pb-2 md:flex"
    >
      <NavLink
        to="/create"
        aria-label="Kinora, to the Create page"
        className="grid h-14 shrink-0 place-items-center rounded-lg"
      >
        <Mark size={30} />
      </NavLink>
      {places.map(({ path, label, icon: Icon, isMain }, index) => (
        <div key={path} className={cx('contents', !isMain && places[index - 1]?.isMain && '')}>
          {!isMain && places[index - 1]?.isMain && <div className="flex-1" />}
          <NavLink to={path} className={({ isActive }) => cx(linkClass(isActive), 'h-14 shrink-0')}>
            {({ isActive }) => (
              <>
                {isActive && (
                  <span
                    className="bg-lamp absolute top-3 bottom-3 -left-1.5 w-0.5 rounded-full"
                    aria-hidden="true"
                  />
                )}
                <Icon className={isActive ? 'text-lamp-ink' : undefined} />
                {label}
                {path === '/queue' && <QueueDot />}
              </>
            )}
          </NavLink>
        </div>
      ))}
    </nav>
  );
}

export function BottomBar() {
  const navigate = useNavigate();
  const { pathname } = useLocation();
  const rest = places.filter((place) => !place.isMain);
  const isInRest = rest.some((place) => pathname.startsWith(place.path));
  return (
    <nav
      aria-label="Main"
      className="bg-panel border-line grid shrink-0 grid-cols-6 gap-1 border-t px-1.5 pt-1 pb-[max(0.25rem,env(safe-area-inset-bottom))] md:hidden"
    >
      {places
        .filter((place) => place.isMain)
        .map(({ path, label, icon: Icon }) => (
          <NavLink
            key={path}
            to={path}
            className={({ isActive }) => cx(linkClass(isActive), 'h-13')}
          >
            {({ isActive }) => (
              <>
                <Icon className={isActive ? 'text-lamp-ink' : undefined} />
                {label}
                {path === '/queue' && <QueueDot />}
              </>
            )}
          </NavLink>
        ))}
      <Menu
        trigger={
          <button type="button" className={cx(linkClass(isInRest), 'h-13')}>
            <Ellipsis
              size={20}
              aria-hidden="true"
              className={isInRest ? 'text-lamp-ink' : undefined}
            />
            More
          </button>
        }
        actions={rest.map(({ path, label, icon: Icon }) => ({
          label,
          icon: <Icon size={16} />,
          onSelect: () => void navigate(path),
        }))}
      />
    </nav>
  );
}
