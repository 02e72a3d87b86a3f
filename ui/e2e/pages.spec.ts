// The other pages against the real server: what they show is what there is.
import { expect, expectDecoded, go, test } from './studio';

test('gallery: search, look, trash, undo', async ({ page, studio }) => {
  for (const [prompt, seed] of [
    ['a white windmill on green hills', 11],
    ['a lighthouse by the sea', 12],
  ] as const) {
    await studio.ask('POST', '/api/jobs', { prompt, seed });
  }
  await studio.rest();
  await go(page, studio, '/gallery');
  await expect(page.getByRole('option')).toHaveCount(2);
  await page.getByRole('searchbox').fill('lighthouse');
  await expect(page.getByRole('option')).toHaveCount(1);
  await page.getByRole('option').click();
  await expectDecoded(page, 'a lighthouse by the sea');
  await expect(page.getByText('12', { exact: true })).toBeVisible();
  await page.keyboard.press('Delete');
  // Under the pointer the message stays for as long as the rest takes.
  await page.getByRole('button', { name: 'Undo' }).hover();
  await expect(page.getByText('No picture matches')).toBeVisible();
  await page.getByRole('button', { name: 'Undo' }).click();
  await expect(page.getByRole('option')).toHaveCount(1);
});

test('queue: paused jobs change their order by keyboard and go on', async ({ page, studio }) => {
  await studio.ask('POST', '/api/queue/pause', {});
  for (const prompt of ['first hill', 'second hill', 'third hill']) {
    await studio.ask('POST', '/api/jobs', { prompt });
  }
  await go(page, studio, '/queue');
  await page.getByRole('button', { name: /^Move job 3: third hill/ }).focus();
  await page.keyboard.press('Alt+ArrowUp');
  await expect(page.getByRole('button', { name: /^Move job 2: third hill/ })).toBeFocused();
  const { jobs } = await studio.ask<{ jobs: { plan: { prompt: string } }[] }>(
    'GET',
    '/api/jobs?active=true',
  );
  expect(jobs.map((job) => job.plan.prompt)).toEqual(['first hill', 'third hill', 'second hill']);
  await page.getByRole('button', { name: 'Resume the queue' }).click();
  await studio.rest();
  await page.getByRole('radio', { name: /^Finished/ }).click();
  await expect(page.getByRole('list', { name: 'Finished jobs' }).getByRole('listitem')).toHaveCount(
    3,
  );
});

test('sessions and settings keep what was changed', async ({ page, studio }) => {
  await studio.ask('POST', '/api/sessions', { title: 'Old name' });
  await go(page, studio, '/sessions');
  await page.getByRole('button', { name: 'More for Old name' }).click();
  await page.getByRole('menuitem', { name: 'Rename' }).click();
  await page.getByRole('textbox', { name: 'Name' }).fill('New name');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('link', { name: 'New name' })).toBeVisible();

  await go(page, studio, '/settings');
  await page.getByRole('radio', { name: 'Light' }).click();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'light');
  // The page is light at once; the server has to know it before the page is loaded anew.
  await expect
    .poll(() => studio.ask<{ theme: string }>('GET', '/api/settings').then(({ theme }) => theme))
    .toBe('light');
  await page.evaluate(() => localStorage.clear());
  await page.reload();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'light');
  await go(page, studio, '/settings/system');
  await expect(page.getByText('Engine', { exact: true })).toBeVisible();
});

test('another theme comes at once where motion is reduced', async ({ page, studio }) => {
  await page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });
  await go(page, studio, '/models');
  const colours = () =>
    page.evaluate(() => {
      const inner = document.querySelector('h1')!;
      const probe = inner.appendChild(document.createElement('span'));
      probe.style.color = 'var(--ink)';
      const wanted = getComputedStyle(probe).color;
      probe.remove();
      return [getComputedStyle(document.body).color, getComputedStyle(inner).color, wanted];
    });
  for (const theme of ['light', 'dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
    await expect(page.locator('html')).toHaveAttribute('data-theme', theme);
    const [body, inner, wanted] = await colours();
    expect([body, inner], theme).toEqual([wanted, wanted]);
  }
});
