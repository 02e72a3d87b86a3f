// Looks at pages in Chromium: node dev/shots.mjs OUT PATH… [--size=1280x800] [--theme=dark] [--base=…] [--wait=ms] [--do=js]
import { chromium } from 'playwright-core';

const args = process.argv.slice(2);
const option = (name, fallback) =>
  args.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3) ?? fallback;
const [out, ...paths] = args.filter((arg) => !arg.startsWith('--'));
const base = option('base', 'http://127.0.0.1:5173');
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
for (const size of option('size', '1280x800').split(',')) {
  for (const theme of option('theme', 'dark').split(',')) {
    const [width, height] = size.split('x').map(Number);
    const context = await browser.newContext({
      viewport: { width, height },
      colorScheme: theme,
      hasTouch: width < 500,
      isMobile: width < 500,
    });
    const page = await context.newPage();
    page.on('pageerror', (error) => console.error('page error:', error.message));
    page.on('console', (message) => message.type() === 'error' && console.error(message.text()));
    for (const path of paths) {
      const [search, hash] = path.includes('#') ? path.split('#') : ['', path];
      await page.goto(`${base}/${search}#${hash}`);
      await page.waitForTimeout(Number(option('wait', 900)));
      const script = option('do', '');
      if (script) {
        await new Function('page', `return (async () => { ${script} })()`)(page);
        await page.waitForTimeout(500);
      }
      const name = hash.replaceAll(/[^a-z0-9]+/gi, '-').replace(/^-/, '') || 'home';
      await page.screenshot({ path: `${out}/${name}-${width}-${theme}.png` });
    }
    await context.close();
  }
}
await browser.close();
