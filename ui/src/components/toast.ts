// Short messages after an action, in one manner.
import { toast } from 'sonner';

import { toApiError } from '@/api/error';

export function toastError(error: unknown): void {
  const { message, hint } = toApiError(error);
  toast.error(message, { description: hint || undefined, duration: 8000 });
}

export function toastNotes(notes: { message: string }[]): void {
  if (!notes.length) return;
  toast.info(notes[0]!.message, {
    description: notes
      .slice(1, 4)
      .map((note) => note.message)
      .join(' '),
    duration: 8000,
  });
}
