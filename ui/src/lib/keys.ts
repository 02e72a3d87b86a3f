// Keyboard chords: `mod+k`, `shift+?`, `g c`. `mod` is Ctrl, and Command on a Mac.

export const isMac =
  typeof navigator !== 'undefined' && /Mac|iPhone|iPad/.test(navigator.platform ?? '');

const NAMES: Record<string, string> = {
  mod: isMac ? '⌘' : 'Ctrl',
  shift: isMac ? '⇧' : 'Shift',
  alt: isMac ? '⌥' : 'Alt',
  enter: 'Enter',
  escape: 'Esc',
  arrowup: '↑',
  arrowdown: '↓',
  arrowleft: '←',
  arrowright: '→',
  ' ': 'Space',
  delete: 'Del',
  home: 'Home',
  end: 'End',
};

/** A chord as the keys that are printed on a keyboard. */
export function chordKeys(chord: string): string[] {
  return chord.split('+').map((key) => NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key));
}

/** Whether the event is the chord. Chords of one letter never fire while text is being typed. */
export function matchesChord(event: KeyboardEvent, chord: string): boolean {
  const parts = chord.toLowerCase().split('+');
  const key = parts.pop();
  const wantsMod = parts.includes('mod');
  const hasMod = isMac ? event.metaKey : event.ctrlKey;
  if (wantsMod !== hasMod) return false;
  if (parts.includes('alt') !== event.altKey) return false;
  // Shift is part of what `?` is, so it only counts where the chord names it, and with letters and
  // Enter.
  const wantsShift = parts.includes('shift');
  if (wantsShift && !event.shiftKey) return false;
  if (!wantsShift && event.shiftKey && /^([a-z]|enter)$/.test(key ?? '')) return false;
  return event.key.toLowerCase() === key;
}

/** Whether keystrokes go into a text at the moment. */
export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable) return true;
  if (target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement) return true;
  return (
    target instanceof HTMLInputElement &&
    !['checkbox', 'radio', 'range', 'button', 'submit'].includes(target.type)
  );
}
