// A prompt list from a file, wherever it was dropped or chosen.
import { toast } from 'sonner';

import { LARGEST_LIST, updateBulk } from '@/lib/bulk-draft';
import { readText } from '@/lib/read-text';
import { toastError } from './toast';

/** Puts a file's text into the editor of lists; false where it could not be taken, which it says. */
export async function takeList(file: File): Promise<boolean> {
  if (file.size > LARGEST_LIST) {
    toast.error('This list is too large.', { description: 'Split it into lists under 32 MB.' });
    return false;
  }
  try {
    updateBulk({ text: await readText(file), name: file.name });
    return true;
  } catch (error) {
    toastError(error);
    return false;
  }
}
