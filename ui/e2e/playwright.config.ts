// The browser tests: Debian's Chromium against a real `kinora serve` with its real engine.
//
// KINORA_E2E_PROGRAM  the program `kinora` (default: target/release, then target/debug)
// KINORA_E2E_ENGINE   a folder with kinora-engine, when it does not lie beside the program
import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: '.',
  testMatch: '*.spec.ts',
  testIgnore: 'desktop/**',
  outputDir: '../test-results',
  // Every test has its own studio, and an engine that wants the whole machine.
  workers: 1,
  fullyParallel: false,
  retries: 0,
  // Generous: what is waited for are conditions, and a loaded machine is no reason to fail.
  timeout: 600_000,
  expect: { timeout: 150_000 },
  reporter: [['list']],
  forbidOnly: true,
  use: {
    browserName: 'chromium',
    viewport: { width: 1280, height: 800 },
    actionTimeout: 90_000,
    navigationTimeout: 90_000,
    screenshot: 'only-on-failure',
    trace: 'retain-on-failure',
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    },
  },
});
