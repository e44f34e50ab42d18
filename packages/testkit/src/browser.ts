import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, chromium } from 'playwright-core';

/** Starts the Chromium of this machine, without a window. Close it with `close()`. @throws Error when there is none. */
export async function launchBrowser(): Promise<Browser> {
  // As root, in a container, there is no sandbox to have; what is opened are pages of our own.
  return await chromium.launch({ executablePath: chromiumPath(), args: ['--no-sandbox'] });
}

function chromiumPath(): string {
  const names = ['chromium', 'chromium-browser', 'google-chrome'];
  const found = (process.env['PATH'] ?? '')
    .split(delimiter)
    .flatMap((folder) => names.map((name) => join(folder, name)))
    .find((path) => existsSync(path));
  const usual = '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome';
  if (found === undefined && !existsSync(usual)) {
    throw new Error('these tests need Chromium on PATH: install the package "chromium"');
  }
  return found ?? usual;
}
