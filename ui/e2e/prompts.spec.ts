// Prompts that are more than one: the preview, the combinations, the lists that they draw from.
import { expect, expectDecoded, go, test } from './studio';

test('a prompt shows what it becomes, and all of it can be made', async ({ page, studio }) => {
  await go(page, studio, '/create');
  const prompt = page.getByLabel('Prompt', { exact: true });
  await prompt.fill('a {red|blue} house by the sea, {sun|moon} on the left');
  const preview = page.getByRole('region', { name: '4 combinations' });
  await expect(preview).toBeVisible();
  await preview.getByRole('radio', { name: 'All of them' }).click();
  // Until the answer comes, the draws are still shown, and may show it twice.
  await expect(preview.getByText('a blue house by the sea, moon on the left')).toHaveCount(1);
  await page.getByRole('button', { name: 'Generate 4 pictures' }).click();
  const results = () =>
    studio.ask<{
      assets: { recipe: { plan: { prompt: string; seed: number } } }[];
      total: number;
    }>('GET', '/api/assets');
  await expect.poll(async () => (await results()).total).toBe(4);
  const { assets } = await results();
  expect(new Set(assets.map(({ recipe }) => recipe.plan.prompt)).size).toBe(4);
  expect(new Set(assets.map(({ recipe }) => recipe.plan.seed)).size).toBe(1);

  await prompt.fill('a {red|blue house');
  await expect(page.getByText(/column 3: the choice that begins here is not closed/)).toBeVisible();
});

test('a list of options is written, drawn from, deleted and brought back', async ({
  page,
  studio,
}) => {
  await go(page, studio, '/settings/wildcards');
  await expect(page.getByText('No lists yet')).toBeVisible();
  await page.getByRole('button', { name: 'New list' }).click();
  await page.getByLabel('Name').fill('weather/light');
  await page.getByLabel('Options').fill('at dawn\nat {night|noon');
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText(/^Line 2, column 4: the choice/)).toBeVisible();
  await page.getByLabel('Options').fill('at dawn\n');
  await page.getByRole('button', { name: 'Save' }).click();
  const list = page.getByRole('list', { name: 'Wildcards' });
  await expect(list.getByText('weather/light')).toBeVisible();

  await go(page, studio, '/create');
  await page
    .getByLabel('Prompt', { exact: true })
    .fill('a red house by the sea <wildcard:weather/light>');
  await page.keyboard.press('Control+Enter');
  await expectDecoded(page, 'a red house by the sea at dawn');

  await go(page, studio, '/settings/wildcards');
  await page.getByRole('button', { name: 'Delete weather/light' }).click();
  await expect(page.getByText('No lists yet')).toBeVisible();
  await page.getByRole('button', { name: 'Undo' }).click();
  await expect(list.getByText('1 option', { exact: false })).toBeVisible();
});
