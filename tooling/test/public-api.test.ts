import { expect, test } from 'vitest';
import { publicApiOf } from '../public-api.ts';
import { published } from '../workspace.ts';

// A difference is a change of what users build on: review it, note it in a changeset, then run `vitest -u`.
test.each(published)('$name exports what was reviewed', async (pkg) => {
  const page = `# ${pkg.manifest.name}: public API\n\n${publicApiOf(pkg)}`;
  await expect(page).toMatchFileSnapshot(`../api/${pkg.name}.md`);
});
