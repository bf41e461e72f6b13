// What can be bought.
import { serve } from './lib.mjs';

const ITEMS = ['teapot', 'lamp', 'chair', 'kettle'].map((name, i) => ({ id: i + 1, name }));

serve('catalog', async (path) => {
  const id = path.match(/^\/items\/(\d+)/)?.[1];
  return { items: id ? ITEMS.filter((item) => item.id === Number(id)) : ITEMS };
});
