// Create: the form, the stage, and the strip of results.
import { EmptyStage } from '@/components/stage/Stage';
import { StudioPage } from '@/components/stage/StudioPage';
import { followedStore } from '@/lib/followed';
import { CreateForm } from './CreateForm';

export default function CreatePage() {
  return (
    <StudioPage title="Create" form={<CreateForm />} store={followedStore} empty={<EmptyStage />} />
  );
}
