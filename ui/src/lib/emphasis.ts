// Weights of words in a prompt, changed by keys: (word:1.1). The notation is A1111's.

export interface Selected {
  text: string;
  start: number;
  end: number;
}

const LEAST = 0;
const MOST = 2;

/** Letters of a word, as far as the caret takes it along. */
const isWordLetter = (letter: string | undefined) =>
  letter !== undefined && /[\p{L}\p{N}_'-]/u.test(letter);

/** The selection without the spaces at its ends, or the word at the caret. */
function widen({ text, start, end }: Selected): { start: number; end: number } | null {
  if (start === end) {
    while (isWordLetter(text[start - 1])) start -= 1;
    while (isWordLetter(text[end])) end += 1;
  }
  while (start < end && /\s/.test(text[start]!)) start += 1;
  while (end > start && /\s/.test(text[end - 1]!)) end -= 1;
  return start < end ? { start, end } : null;
}

/**
 * The text with more or less weight on what is selected. Words that have a weight get another one;
 * at 1 the brackets go. `null`: there is nothing to weigh.
 */
export function weigh(selected: Selected, by: number): Selected | null {
  const { text } = selected;
  const range = widen(selected);
  if (!range) return null;
  let { start, end } = range;
  let weight = 1;
  let [from, to] = [start, end];
  const whole = /^\(([^()]*):\s*(-?\d*\.?\d+)\s*\)$/.exec(text.slice(start, end));
  const behind = /^:\s*(-?\d*\.?\d+)\s*\)/.exec(text.slice(end));
  if (whole) {
    // The brackets are part of the selection.
    weight = Number(whole[2]);
    start += 1;
    end = start + whole[1]!.length;
  } else if (text[start - 1] === '(' && behind) {
    weight = Number(behind[1]);
    from -= 1;
    to += behind[0].length;
  }
  const next = Math.round(Math.min(MOST, Math.max(LEAST, weight + by)) * 100) / 100;
  const words = text.slice(start, end);
  const written = next === 1 ? words : `(${words}:${next})`;
  const at = from + (next === 1 ? 0 : 1);
  return {
    text: text.slice(0, from) + written + text.slice(to),
    start: at,
    end: at + words.length,
  };
}
