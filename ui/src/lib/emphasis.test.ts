import { describe, expect, it } from 'vitest';

import { weigh } from './emphasis';

/** Weighs what stands between « and »; the answer marks what is selected then. */
function weighed(marked: string, by: number): string | null {
  const start = marked.indexOf('«');
  const end = marked.indexOf('»') - 1;
  const next = weigh({ text: marked.replaceAll(/[«»]/g, ''), start, end }, by);
  if (!next) return null;
  const { text } = next;
  return `${text.slice(0, next.start)}«${text.slice(next.start, next.end)}»${text.slice(next.end)}`;
}

describe('weights of words', () => {
  it.each([
    ['a «red» fox', 0.1, 'a («red»:1.1) fox'],
    ['a r«»ed fox', 0.1, 'a («red»:1.1) fox'],
    ['a «red fox » here', 0.1, 'a («red fox»:1.1)  here'],
    ['a («red»:1.1) fox', 0.1, 'a («red»:1.2) fox'],
    ['a («red»:1.1) fox', -0.1, 'a «red» fox'],
    ['a «(red:1.1)» fox', -0.2, 'a («red»:0.9) fox'],
    ['a (re«»d:1.15) fox', 0.05, 'a («red»:1.2) fox'],
    ['«fox»', -0.1, '(«fox»:0.9)'],
    ['(«fox»:2)', 0.1, '(«fox»:2)'],
    ['(«fox»:0)', -0.1, '(«fox»:0)'],
    ['«日本»', 0.1, '(«日本»:1.1)'],
  ])('%s by %d', (marked, by, expected) => expect(weighed(marked, by)).toBe(expected));

  it('has nothing to do where there is no word', () => {
    expect(weighed('a «» fox', 0.1)).toBeNull();
    expect(weighed('a , «» fox', 0.1)).toBeNull();
    expect(weighed('«»', 0.1)).toBeNull();
  });
});
