// What a customer has chosen; POST adds a line.
import { serve } from './lib.mjs';

const carts = new Map();

serve('cart', async (path, request, body) => {
  const customer = path.split('/')[2] ?? 'nobody';
  const lines = carts.get(customer) ?? [];
  if (request.method === 'POST') carts.set(customer, [...lines.slice(-4), body]);
  return { customer, lines: carts.get(customer) ?? [] };
});
