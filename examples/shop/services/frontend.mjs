// The page that customers see, put together from three other services.
import { callJson, serve } from './lib.mjs';

serve('frontend', async () => {
  const [catalog, cart, recommendations] = await Promise.all([
    callJson('catalog', '/items'),
    callJson('cart', '/cart/ann', { headers: { 'x-debug': 'on' } }),
    callJson('recommendations', '/recommendations/ann'),
  ]);
  return { items: catalog.items, cart: cart.lines, recommended: recommendations.recommended };
});
