// Bulk: write a list, or look at one that was run.
import { useParams } from 'react-router';

import { BatchView } from './BatchView';
import { Compose } from './Compose';

export default function BulkPage() {
  const { batch } = useParams();
  return batch ? <BatchView key={batch} id={batch} /> : <Compose />;
}
