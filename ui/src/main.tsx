// Where the page begins.
import '@fontsource-variable/geist';
import '@fontsource-variable/geist-mono';
import './styles/index.css';

import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { prepareHost } from '@/api/host';
import { App } from '@/app/App';
import { followTheme } from '@/lib/preferences';

followTheme();
await prepareHost();

const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
