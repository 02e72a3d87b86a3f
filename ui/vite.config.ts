/// <reference types="vitest/config" />
// How the bundle is built. In mode `mock` (and in tests) the host is the scripted one of dev/;
// no other build contains it.
import { fileURLToPath } from 'node:url';

import tailwindcss from '@tailwindcss/vite';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig(({ mode }) => {
  const isMock = mode === 'mock' || mode === 'test';
  const server = process.env.KINORA_DEV_SERVER ?? 'http://127.0.0.1:8030';
  return {
    base: './',
    plugins: [react(), tailwindcss()],
    resolve: {
      alias: [
        ...(isMock ? [{ find: /^@\/api\/host$/, replacement: here('./dev/mock/host.ts') }] : []),
        { find: '@', replacement: here('./src') },
        { find: '#dev', replacement: here('./dev') },
      ],
    },
    server: {
      port: 5173,
      strictPort: true,
      proxy: isMock
        ? undefined
        : Object.fromEntries(
            ['/api', '/media', '/ws', '/docs', '/pair', '/healthz'].map((path) => [
              path,
              {
                target: server,
                ws: path === '/ws',
                changeOrigin: true,
                // The server answers its own pages only; in development this one speaks for them.
                headers: { origin: server },
              },
            ]),
          ),
    },
    build: {
      target: 'es2022',
      chunkSizeWarningLimit: 900,
      rollupOptions: {
        output: {
          manualChunks: (id) => {
            if (id.includes('@codemirror') || id.includes('style-mod')) return 'editor';
            if (id.includes('node_modules')) return 'vendor';
            return undefined;
          },
        },
      },
    },
    test: {
      environment: 'jsdom',
      include: ['src/**/*.test.{ts,tsx}', 'dev/**/*.test.ts'],
      setupFiles: ['./dev/test-setup.ts'],
      css: false,
      restoreMocks: true,
      testTimeout: 20_000,
    },
  };
});
