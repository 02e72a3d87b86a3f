// WCAG 2.2 AA on every page, in both themes, with content and over it.
import { expectAccessible } from './accessible';
import { expect, go, test } from './studio';

const PAGES = [
  '/create',
  '/video',
  '/bulk',
  '/queue',
  '/gallery',
  '/gallery?trash=1',
  '/sessions',
  '/models',
  '/settings/general',
  '/settings/wildcards',
  '/settings/folders',
  '/settings/system',
  '/settings/space',
  '/settings/logs',
  '/settings/about',
];

for (const theme of ['dark', 'light'] as const) {
  test(`no violations on any page, ${theme}`, async ({ page, studio }) => {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
    await studio.ask('POST', '/api/jobs', { prompt: 'a lighthouse by the sea', seed: 5 });
    await studio.rest();
    const { batch } = await studio.ask<{ batch: string }>('POST', '/api/bulk', {
      text: 'a hill\na lake',
    });
    await studio.rest();
    for (const path of [...PAGES, `/bulk/${batch}`]) {
      await go(page, studio, path);
      await expect(page.locator('html')).toHaveAttribute('data-theme', theme);
      await expect(page.getByRole('heading', { level: 1 })).toBeAttached();
      await expectAccessible(page, `${path}, ${theme}`);
    }
    // What lies over a page.
    await go(page, studio, '/gallery');
    await page.getByRole('option').first().click();
    await expect(page.getByRole('heading', { name: 'Settings', exact: true })).toBeVisible();
    await expectAccessible(page, `viewer, ${theme}`);
    await page.getByRole('button', { name: 'Open its job' }).click();
    await expect(page.getByRole('heading', { name: 'Where the time went' })).toBeVisible();
    await expectAccessible(page, `job, ${theme}`);
    await page.keyboard.press('Escape');
    await page.keyboard.press('Control+k');
    await expect(page.getByRole('dialog')).toBeVisible();
    await expectAccessible(page, `palette, ${theme}`);
    await page.keyboard.press('Escape');
    await page.keyboard.press('?');
    await expect(page.getByRole('dialog', { name: 'Keyboard and help' })).toBeVisible();
    await expectAccessible(page, `help, ${theme}`);
  });
}
