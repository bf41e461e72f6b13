// What customers think. Version v2 counts half stars.
import { serve } from './lib.mjs';

const [, , , , version = 'v1'] = process.argv;

serve('reviews', async (path) => {
  const item = Number(path.match(/(\d+)$/)?.[1] ?? 0);
  return { item, stars: version === 'v2' ? 4.5 : 4 };
});
