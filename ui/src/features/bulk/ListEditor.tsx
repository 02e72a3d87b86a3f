// The list as text: line numbers, problems in the margin, a jump to any line.
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { lintGutter, setDiagnostics, type Diagnostic } from '@codemirror/lint';
import { highlightSelectionMatches, searchKeymap } from '@codemirror/search';
import { EditorState, type Text } from '@codemirror/state';
import {
  EditorView,
  highlightActiveLine,
  highlightActiveLineGutter,
  keymap,
  lineNumbers,
  placeholder,
} from '@codemirror/view';
import { useEffect, useImperativeHandle, useRef, type Ref } from 'react';

import type { Problem } from '@/api/types';
import { useLatest } from '@/lib/hooks';

export interface EditorHandle {
  jumpTo(line: number): void;
}

const look = EditorView.theme({
  '&': { height: '100%', backgroundColor: 'var(--field)', color: 'var(--ink)' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--font-mono)', fontSize: '13px', lineHeight: '1.6' },
  '.cm-content': { padding: '10px 0', caretColor: 'var(--lamp-ink)' },
  '.cm-cursor': { borderLeftColor: 'var(--lamp-ink)', borderLeftWidth: '2px' },
  '.cm-gutters': {
    backgroundColor: 'var(--field)',
    color: 'var(--ink-3)',
    border: 'none',
    paddingLeft: '4px',
  },
  '.cm-activeLine': { backgroundColor: 'color-mix(in oklch, var(--ink) 4%, transparent)' },
  '.cm-activeLineGutter': { backgroundColor: 'transparent', color: 'var(--ink)' },
  '.cm-selectionBackground, &.cm-focused .cm-selectionBackground': {
    backgroundColor: 'color-mix(in oklch, var(--lamp) 30%, transparent) !important',
  },
  '.cm-placeholder': { color: 'var(--ink-3)', whiteSpace: 'pre-wrap' },
  '.cm-tooltip': {
    backgroundColor: 'var(--panel)',
    color: 'var(--ink)',
    border: '1px solid var(--line)',
    borderRadius: '8px',
    overflow: 'hidden',
    fontFamily: 'var(--font-sans)',
  },
  '.cm-diagnostic': { borderLeft: '3px solid var(--bad)', padding: '6px 10px' },
  '.cm-lint-marker-error': {
    content: '""',
    width: '7px',
    height: '7px',
    margin: '7px 3px',
    borderRadius: '50%',
    backgroundColor: 'var(--bad)',
  },
  '.cm-lintRange-error': {
    backgroundImage: 'none',
    textDecoration: 'underline wavy var(--bad)',
    textDecorationThickness: '1px',
    textUnderlineOffset: '3px',
  },
  '.cm-panels': { backgroundColor: 'var(--panel)', color: 'var(--ink)' },
  '.cm-panels input, .cm-panels button': {
    backgroundColor: 'var(--raised)',
    color: 'var(--ink)',
    backgroundImage: 'none',
    border: '1px solid var(--line)',
    borderRadius: '5px',
  },
});

/** Problems with a line, as marks in the text. */
export function toDiagnostics(text: Text, problems: Problem[]): Diagnostic[] {
  return problems.flatMap((problem) => {
    if (!problem.line || problem.line > text.lines) return [];
    const { from, to } = text.line(problem.line);
    const where = problem.column ? `${problem.column}: ` : '';
    return [
      {
        from,
        to: Math.max(to, from),
        severity: 'error' as const,
        message: `${where}${problem.message} ${problem.hint}`,
      },
    ];
  });
}

export default function ListEditor({
  value,
  onValue,
  problems,
  hint,
  handle,
}: {
  value: string;
  onValue(value: string): void;
  problems: Problem[];
  hint: string;
  handle: Ref<EditorHandle>;
}) {
  const parent = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const changed = useLatest(onValue);
  const first = useRef({ value, hint });

  useEffect(() => {
    const editor = new EditorView({
      parent: parent.current!,
      state: EditorState.create({
        doc: first.current.value,
        extensions: [
          lineNumbers(),
          lintGutter(),
          history(),
          highlightActiveLine(),
          highlightActiveLineGutter(),
          highlightSelectionMatches(),
          placeholder(first.current.hint),
          // Tab stays what moves the focus; tabs of a spreadsheet come in by pasting.
          keymap.of([...defaultKeymap, ...historyKeymap, ...searchKeymap]),
          EditorView.contentAttributes.of({
            'aria-label': 'Prompt list',
            spellcheck: 'false',
            tabindex: '0',
          }),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) changed(update.state.doc.toString());
          }),
          look,
        ],
      }),
    });
    view.current = editor;
    return () => editor.destroy();
  }, [changed]);

  // A list that came from outside: a file, an example.
  useEffect(() => {
    const editor = view.current;
    if (!editor || editor.state.doc.toString() === value) return;
    editor.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: value } });
  }, [value]);

  useEffect(() => {
    const editor = view.current;
    if (editor)
      editor.dispatch(setDiagnostics(editor.state, toDiagnostics(editor.state.doc, problems)));
  }, [problems]);

  useImperativeHandle(handle, () => ({
    jumpTo(line) {
      const editor = view.current;
      if (!editor) return;
      const { from } = editor.state.doc.line(Math.min(Math.max(1, line), editor.state.doc.lines));
      editor.dispatch({
        selection: { anchor: from },
        effects: EditorView.scrollIntoView(from, { y: 'center' }),
      });
      editor.focus();
    },
  }));

  return <div ref={parent} className="h-full min-h-0 overflow-hidden" />;
}
