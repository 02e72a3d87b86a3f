// What may import what, and the rest of the rules.
//
//   app → features → components → api → lib        (each may import everything to its right)
//
// A feature never imports a feature: inside its own folder it uses relative paths, and outside it
// only components, api and lib. Where two features meet (the viewer over any page), the app does
// the composing.
import js from '@eslint/js';
import jsxA11y from 'eslint-plugin-jsx-a11y';
import reactHooks from 'eslint-plugin-react-hooks';
import globals from 'globals';
import tseslint from 'typescript-eslint';

const layers = ['app', 'features', 'components', 'api', 'lib'];

/** Forbids imports of every layer to the left of `layer`, and of features by features. */
function boundary(layer) {
  const left = layers.slice(0, layers.indexOf(layer));
  const forbidden = layer === 'features' ? [...left, 'features'] : left;
  return {
    files: [`src/${layer}/**/*.{ts,tsx}`],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            ...(forbidden.length
              ? [
                  {
                    group: forbidden.flatMap((name) => [`@/${name}`, `@/${name}/**`]),
                    message: `${layer} may not import this layer (see eslint.config.js).`,
                  },
                ]
              : []),
            {
              group: ['../../**', '#dev/**'],
              message: 'Use the @/ alias; nothing of dev/ is part of the product.',
            },
            ...(layer === 'api'
              ? []
              : [
                  {
                    group: ['@tauri-apps/**', '@/api/host/tauri', '@/api/host/http'],
                    message: 'Only api/host knows which host it runs in.',
                  },
                ]),
          ],
        },
      ],
    },
  };
}

export default tseslint.config(
  { ignores: ['dist', 'src/api/generated', 'test-results', 'playwright-report', 'node_modules'] },
  js.configs.recommended,
  ...tseslint.configs.recommended,
  reactHooks.configs.flat['recommended-latest'],
  jsxA11y.flatConfigs.recommended,
  {
    languageOptions: { globals: { ...globals.browser, ...globals.node } },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-console': 'error',
      // TanStack Virtual returns functions that the React compiler cannot memoise; we do not use
      // the compiler.
      'react-hooks/incompatible-library': 'off',
    },
  },
  { files: ['dev/**', 'e2e/**'], rules: { 'no-console': 'off' } },
  // Playwright's fixtures have a function `use` that is no hook.
  { files: ['e2e/**'], rules: { 'react-hooks/rules-of-hooks': 'off' } },
  ...layers.slice(1).map(boundary),
);
