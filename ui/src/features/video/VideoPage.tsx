// Video: the form of clips, the clip in the making, and the clips before it.
import { useNavigate } from 'react-router';

import type { AssetFilter } from '@/api/keys';
import { useModels } from '@/api/queries';
import type { Job } from '@/api/types';
import { VideoIcon } from '@/components/icons';
import { isUsable, makesClips } from '@/components/request/ability';
import { StudioPage } from '@/components/stage/StudioPage';
import { Button } from '@/components/ui/Button';
import { EmptyState, ErrorNotice, Skeleton } from '@/components/ui/Feedback';
import { followedClipStore } from '@/lib/followed';
import { VideoForm } from './VideoForm';

const clips: AssetFilter = { kind: 'video' };
const isClip = (job: Job) => Boolean(job.plan.video);

export default function VideoPage() {
  const { data, error, refetch } = useModels();
  if (error && !data) {
    return <ErrorNotice error={error} onRetry={() => void refetch()} className="m-4" />;
  }
  if (!data) return <Skeleton className="m-4 h-64" />;
  const able = data.models.filter((model) => makesClips(model.capabilities));
  if (!able.some(isUsable)) return <NoModel names={able.map((model) => model.name)} />;
  return (
    <StudioPage
      title="Video"
      form={<VideoForm />}
      store={followedClipStore}
      filter={clips}
      isOwn={isClip}
      empty={
        <EmptyState className="flex-1" icon={<VideoIcon size={40} />} title="Your first clip">
          Drop a picture and press Draft: it begins to move in a few steps. Say what happens in it
          where you want to, and make the draft full when it goes the right way.
        </EmptyState>
      }
    />
  );
}

/** The most names that are told. */
const NAMED = 4;

function NoModel({ names }: { names: string[] }) {
  const navigate = useNavigate();
  return (
    <>
      <h1 className="sr-only">Video</h1>
      <EmptyState
        className="h-full"
        icon={<VideoIcon size={40} />}
        title="No model for clips yet"
        action={
          <Button variant="primary" onClick={() => void navigate('/models')}>
            To the models
          </Button>
        }
      >
        Clips need a video model, and none is on this machine.
        {names.length > 0 && ` Kinora runs ${names.slice(0, NAMED).join(', ')}`}
        {names.length > NAMED && ` and ${names.length - NAMED} more`}
        {names.length > 0 && '.'} Put its files into the models folder, and this page is ready.
      </EmptyState>
    </>
  );
}
