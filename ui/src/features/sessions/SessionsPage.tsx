// Sessions: named stretches of work, each the way back to its pictures.
import { useVirtualizer } from '@tanstack/react-virtual';
import { Ellipsis, Images, Pencil, Plus, Trash2 } from 'lucide-react';
import { useRef, useState } from 'react';
import { Link, useNavigate } from 'react-router';
import { toast } from 'sonner';

import { useCommand } from '@/api/client';
import { useAssetWindow, useSessions } from '@/api/queries';
import { thumbnailUrl } from '@/api/media';
import type { Asset, Session } from '@/api/types';
import { SessionsIcon } from '@/components/icons';
import { toastError } from '@/components/toast';
import { Button, IconButton } from '@/components/ui/Button';
import { Dialog } from '@/components/ui/Dialog';
import { Badge, EmptyState, ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { Field, TextInput } from '@/components/ui/Field';
import { Menu } from '@/components/ui/Menu';
import { Page } from '@/components/ui/Page';
import { SwitchRow } from '@/components/ui/Switch';
import { updateDraft } from '@/lib/draft';
import { formatWhen, plural } from '@/lib/format';

const ROW = 92;

export default function SessionsPage() {
  const { data, error, isPending, refetch } = useSessions();
  const [renamed, setRenamed] = useState<Session | null>(null);
  const [removed, setRemoved] = useState<Session | null>(null);
  const create = useCommand('sessions_create');
  const navigate = useNavigate();
  const scroller = useRef<HTMLDivElement>(null);
  const sessions = data?.items ?? [];
  const rows = useVirtualizer({
    count: sessions.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW,
    overscan: 6,
  });

  return (
    <Page
      title="Sessions"
      about="A session gathers the pictures of one stretch of work."
      actions={
        <Button
          icon={<Plus size={16} aria-hidden="true" />}
          isBusy={create.isPending}
          onClick={() =>
            create.mutate(
              { title: '' },
              {
                onSuccess: (session) => {
                  updateDraft({ session: session.id });
                  void navigate('/create');
                  toast.success('A new session begins with your next picture.');
                },
                onError: toastError,
              },
            )
          }
        >
          New session
        </Button>
      }
    >
      {error ? (
        <ErrorNotice error={error} onRetry={() => void refetch()} className="m-6" />
      ) : isPending ? (
        <div className="flex flex-col gap-2 px-6">
          <Skeleton className="h-20" />
          <Skeleton className="h-20" />
        </div>
      ) : !sessions.length ? (
        <EmptyState className="h-full" icon={<SessionsIcon size={38} />} title="No sessions yet">
          The first picture that you make begins one, named after its prompt.
        </EmptyState>
      ) : (
        <div ref={scroller} className="h-full overflow-y-auto px-4 pb-6 md:px-6">
          <ul className="relative" style={{ height: rows.getTotalSize() }}>
            {rows.getVirtualItems().map(({ index, start }) => {
              const session = sessions[index]!;
              return (
                <li
                  key={session.id}
                  className="absolute inset-x-0 pb-2"
                  style={{ height: ROW, transform: `translateY(${start}px)` }}
                >
                  <Row
                    session={session}
                    onRename={() => setRenamed(session)}
                    onRemove={() => setRemoved(session)}
                  />
                </li>
              );
            })}
          </ul>
        </div>
      )}
      {renamed && <Rename session={renamed} onDone={() => setRenamed(null)} />}
      {removed && <Remove session={removed} onDone={() => setRemoved(null)} />}
    </Page>
  );
}

function Row({
  session,
  onRename,
  onRemove,
}: {
  session: Session;
  onRename(): void;
  onRemove(): void;
}) {
  const navigate = useNavigate();
  const pictures = useAssetWindow({ session: session.id }, 0, 3);
  const shown = Array.from({ length: Math.min(4, pictures.total) }, (_, i) =>
    pictures.at(i),
  ).filter((asset): asset is Asset => asset !== undefined);
  const { counts } = session;
  const open = counts.queued + counts.running + counts.paused;
  const link = `/gallery?session=${session.id}`;
  return (
    <div className="bg-panel border-line hover:border-edge/70 relative flex h-full items-center gap-4 rounded-lg border px-3 transition-colors md:px-4">
      <div className="grid w-28 shrink-0 grid-cols-2 gap-1 max-sm:hidden" aria-hidden="true">
        {[0, 1].map((at) => (
          <div key={at} className="picture-ground h-14 overflow-hidden rounded-sm">
            {shown[at] && (
              <img src={thumbnailUrl(shown[at].id)} alt="" className="size-full object-cover" />
            )}
          </div>
        ))}
      </div>
      <div className="min-w-0 flex-1">
        <Link
          to={link}
          className="block truncate font-medium after:absolute after:inset-0 after:rounded-lg"
        >
          {session.title || 'Untitled session'}
        </Link>
        <p className="text-ink-3 tnum mt-0.5 flex flex-wrap items-center gap-x-2 text-sm">
          <span>{plural(session.assets, 'picture')}</span>
          <span>· {formatWhen(session.updated_at)}</span>
          {session.kind === 'bulk' && <Badge>List</Badge>}
          {open > 0 && <Badge tone="lamp">{plural(open, 'job')} open</Badge>}
          {counts.failed > 0 && <Badge tone="bad">{counts.failed} failed</Badge>}
        </p>
      </div>
      <div className="relative flex gap-1">
        <Button
          size="sm"
          variant="ghost"
          className="max-md:hidden"
          onClick={() => {
            updateDraft({ session: session.id });
            void navigate('/create');
          }}
        >
          Continue
        </Button>
        <Menu
          trigger={
            <IconButton label={`More for ${session.title || 'this session'}`}>
              <Ellipsis size={18} aria-hidden="true" />
            </IconButton>
          }
          actions={[
            {
              label: 'Show its pictures',
              icon: <Images size={15} />,
              onSelect: () => void navigate(link),
            },
            {
              label: 'Continue in it',
              icon: <Plus size={15} />,
              onSelect: () => {
                updateDraft({ session: session.id });
                void navigate('/create');
              },
            },
            { label: 'Rename', icon: <Pencil size={15} />, onSelect: onRename },
            null,
            { label: 'Remove', icon: <Trash2 size={15} />, isDangerous: true, onSelect: onRemove },
          ]}
        />
      </div>
    </div>
  );
}

function Rename({ session, onDone }: { session: Session; onDone(): void }) {
  const [title, setTitle] = useState(session.title);
  const rename = useCommand('sessions_rename');
  return (
    <Dialog isOpen onOpen={onDone} title="Rename the session" className="max-w-md">
      <form
        className="flex flex-col gap-4"
        onSubmit={(event) => {
          event.preventDefault();
          rename.mutate(
            { id: session.id, title: title.trim() },
            { onSuccess: onDone, onError: toastError },
          );
        }}
      >
        <Field label="Name">
          {(attributes) => (
            <TextInput
              {...attributes}
              data-autofocus
              maxLength={200}
              value={title}
              onChange={(event) => setTitle(event.target.value)}
              onFocus={(event) => event.target.select()}
            />
          )}
        </Field>
        <div className="flex justify-end gap-2">
          <Button onClick={onDone}>Keep the old name</Button>
          <Button
            type="submit"
            variant="primary"
            disabled={!title.trim()}
            isBusy={rename.isPending}
          >
            Rename
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Remove({ session, onDone }: { session: Session; onDone(): void }) {
  const [withAssets, setWithAssets] = useState(false);
  const remove = useCommand('sessions_remove');
  const { counts } = session;
  const open = counts.queued + counts.running + counts.paused;
  return (
    <Dialog
      isOpen
      onOpen={onDone}
      title={`Remove “${session.title || 'Untitled session'}”?`}
      className="max-w-md"
    >
      <p className="text-ink-2">
        {open > 0 && `${plural(open, 'job')} of it will be cancelled. `}
        Its pictures stay in the gallery, unless you send them to the trash as well.
      </p>
      <div className="my-4">
        <SwitchRow
          label={`Move its ${plural(session.assets, 'picture')} to the trash`}
          isOn={withAssets}
          onChange={setWithAssets}
        />
      </div>
      <div className="flex justify-end gap-2">
        <Button onClick={onDone}>Keep it</Button>
        <Button
          variant="danger"
          isBusy={remove.isPending}
          onClick={() =>
            remove.mutate(
              { id: session.id, with_assets: withAssets },
              {
                onSuccess: ({ trashed_assets }) => {
                  onDone();
                  toast.success(
                    trashed_assets
                      ? `Session removed, ${plural(trashed_assets, 'picture')} in the trash.`
                      : 'Session removed. Its pictures stay.',
                  );
                },
                onError: toastError,
              },
            )
          }
        >
          Remove the session
        </Button>
      </div>
    </Dialog>
  );
}
