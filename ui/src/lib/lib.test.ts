import { describe, expect, it, vi } from 'vitest';

import {
  draftRequest,
  emptyDraft,
  loadSettings,
  draftStore,
  promptHistory,
  readDraft,
  startFrom,
  updateDraft,
  withoutFirst,
  rememberPrompt,
} from './draft';
import { isTyping, matchesChord } from './keys';
import { randomSeed, readSeed } from './seed';
import { createStoredStore, createStore } from './store';

describe('seeds', () => {
  it('keeps every digit of a 64-bit seed', () => {
    expect(readSeed('18446744073709551615')).toBe('18446744073709551615');
    expect(readSeed('9007199254740991')).toBe(9007199254740991);
    expect(readSeed('9007199254740992')).toBe('9007199254740992');
  });
  it('takes nothing that is no seed', () => {
    expect(readSeed('18446744073709551616')).toBeUndefined();
    expect(readSeed('-1')).toBeUndefined();
    expect(readSeed('1.5')).toBeUndefined();
    expect(readSeed('  ')).toBeNull();
  });
  it('rolls whole numbers', () => {
    expect(Number.isInteger(randomSeed())).toBe(true);
  });
});

describe('stores', () => {
  it('tells only of changes', () => {
    const store = createStore(1);
    const heard = vi.fn();
    const stop = store.subscribe(heard);
    store.set(1);
    store.set((now) => now + 1);
    stop();
    store.set(5);
    expect(heard).toHaveBeenCalledTimes(1);
    expect(store.get()).toBe(5);
  });
  it('survives a reload, and whatever else lies in the storage', () => {
    const read = (stored: unknown) => (typeof stored === 'number' ? stored : 7);
    createStoredStore('n', read).set(12);
    expect(createStoredStore('n', read).get()).toBe(12);
    localStorage.setItem('n', '{broken');
    expect(createStoredStore('n', read).get()).toBe(7);
  });
});

describe('the draft', () => {
  it('sends only what was chosen', () => {
    expect(draftRequest({ ...emptyDraft, prompt: 'a hill', steps: 4 })).toEqual({
      prompt: 'a hill',
      steps: 4,
    });
  });
  it('reads what it can use from anything', () => {
    expect(readDraft({ prompt: 'x', width: 320, seed: '18446744073709551615', junk: [] })).toEqual({
      ...emptyDraft,
      prompt: 'x',
      width: 320,
      seed: '18446744073709551615',
    });
    expect(readDraft('nonsense')).toEqual(emptyDraft);
    expect(readDraft({ prompt: 5 }).prompt).toBe('');
  });
  it('carries pictures, adapters and what only clips have', () => {
    const settings = {
      prompt: 'x',
      image: 'input:ab',
      more_images: [{ image: 'input:cd', strength: 0.5 }, { image: 'asset:1' }, 'junk', {}],
      strength: 0.4,
      loras: [
        { name: 'ink', weight: -0.5, expert: 'low' },
        { name: 'neon', expert: 'mid' },
        { weight: 1 },
        'junk',
      ],
      video: { frames: 81, seconds: null, fps: '16', end_image: 'asset:1' },
    };
    const draft = readDraft(settings);
    expect(draft).toMatchObject({
      image: 'input:ab',
      strength: 0.4,
      loras: [
        { name: 'ink', weight: -0.5, expert: 'low' },
        { name: 'neon', weight: 1 },
      ],
      video: { frames: 81, fps: null, end_image: 'asset:1' },
    });
    expect(draftRequest(draft)).toEqual({
      prompt: 'x',
      image: 'input:ab',
      more_images: [{ image: 'input:cd', strength: 0.5 }, { image: 'asset:1' }],
      strength: 0.4,
      loras: draft.loras,
      video: { frames: 81, end_image: 'asset:1' },
    });
    expect(readDraft({ loras: 'no', video: [] })).toEqual(emptyDraft);
  });
  it('drops the mask with its picture', () => {
    draftStore.set({ ...emptyDraft, image: 'input:a', mask: 'input:b', width: 320 });
    updateDraft(startFrom('asset:c'));
    expect(draftStore.get()).toMatchObject({ image: 'asset:c', mask: null, width: null });
  });
  it('lets the next picture take the place of the first', () => {
    const two = {
      ...emptyDraft,
      image: 'input:a',
      strength: 1,
      more_images: [{ image: 'input:b', strength: 0.5 }],
    };
    const one = { ...two, ...withoutFirst(two) };
    expect(one).toMatchObject({ image: 'input:b', strength: 0.5, more_images: [] });
    expect(withoutFirst(one)).toMatchObject({ image: null });
  });
  it('takes settings over but stays in its session', () => {
    draftStore.set({ ...emptyDraft, session: 's1', negative_prompt: 'old' });
    loadSettings({ prompt: 'new', session: 's2' });
    expect(draftStore.get()).toMatchObject({ prompt: 'new', negative_prompt: '', session: 's1' });
  });
  it('remembers each prompt once, the latest first', () => {
    promptHistory.set([]);
    ['a', 'b', ' a ', ''].forEach(rememberPrompt);
    expect(promptHistory.get()).toEqual(['a', 'b']);
  });
});

describe('chords', () => {
  const press = (key: string, init: KeyboardEventInit = {}) =>
    new KeyboardEvent('keydown', { key, ...init });
  it('tells chords apart', () => {
    expect(matchesChord(press('k', { ctrlKey: true }), 'mod+k')).toBe(true);
    expect(matchesChord(press('k'), 'mod+k')).toBe(false);
    expect(matchesChord(press('?', { shiftKey: true }), '?')).toBe(true);
    expect(matchesChord(press('K', { shiftKey: true }), 'k')).toBe(false);
    expect(matchesChord(press('ArrowUp', { altKey: true }), 'alt+arrowup')).toBe(true);
  });
  it('knows where text is typed', () => {
    const box = document.createElement('input');
    box.type = 'checkbox';
    expect(isTyping(document.createElement('textarea'))).toBe(true);
    expect(isTyping(box)).toBe(false);
    expect(isTyping(document.body)).toBe(false);
  });
});
