// The result on the stage, for the form beside it: fields that take a picture offer it.
import { createStore } from '@/lib/store';

/** As a reference of requests; null: nothing is there, or it moves. */
export const stagedStore = createStore<string | null>(null);
