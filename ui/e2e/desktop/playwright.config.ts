// The desktop tests: the real window under Xvfb, driven by WebKitWebDriver.
//
// KINORA_PROGRAMS  folder of kinora-desktop and kinora-engine (default: target/release, then debug)
import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: '.',
  testMatch: '*.spec.ts',
  outputDir: '../../test-results/desktop',
  workers: 1,
  retries: 0,
  timeout: 600_000,
  reporter: [['list']],
  forbidOnly: true,
});
