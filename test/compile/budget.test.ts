import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { policyOfSize, probes } from '../../src/bench/policy-size-config.js';
import { compileImage } from '../../src/compile/image.js';
import { IMAGE_SIZE } from '../../src/layout/image.js';
import { buildPlan } from '../../src/plan/build.js';
import type { Condition, RoutePlan } from '../../src/plan/ir.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { resourcesOf } from '../plan/resources.js';
import {
  compile,
  decide,
  forward,
  header,
  listener,
  path,
  plan,
  query,
  regex,
  route,
  ruleOf,
  text,
} from './helpers.js';

const get = (p: string, headers = '') => `GET ${p} HTTP/1.1\nhost: a\n${headers}\n`;

describe('budgets', () => {
  it('are not met by 10,000 routes, compiled in seconds', () => {
    const routes: RoutePlan[] = Array.from({ length: 10_000 }, (_, i) =>
      route(`r${i}`, path(i % 2 ? text('prefix', `/service-${i}/api/`) : text('exact', `/service-${i}`))),
    );
    routes.push(route('last', path(text('prefix', '/'))));
    const started = process.cpuUsage();
    const compiled = compile(plan(listener(routes)));
    const took = process.cpuUsage(started).user / 1000;
    assert.ok(took < 5000, `${took} ms`);
    assert.equal(compiled.verdicts.size, 0);
    assert.ok(compiled.image.length < IMAGE_SIZE);
    for (const i of [0, 1, 2, 3, 4999, 5000, 9998, 9999]) {
      const decision = decide(compiled, get(i % 2 ? `/service-${i}/api/x` : `/service-${i}`));
      assert.equal(ruleOf(compiled, decision), `r${i}`);
    }
    assert.equal(ruleOf(compiled, decide(compiled, get('/service-10/'))), 'last');
  });

  it('are not met by 10,000 routes of every kind', () => {
    const { static_resources: all } = policyOfSize(10_000, '127.0.0.1', 1, 2) as {
      static_resources: { listeners: JsonObject[]; clusters: JsonObject[] };
    };
    const started = process.cpuUsage();
    const compiled = compile(buildPlan(resourcesOf(all.listeners, all.clusters)));
    // CPU time, because others may run at the same time; two seconds on an idle machine
    const took = process.cpuUsage(started).user / 1000;
    assert.ok(took < 10_000, `${took} ms`);
    assert.deepEqual([...compiled.verdicts], []);
    assert.ok(compiled.image.length < IMAGE_SIZE / 2);
    for (const probe of probes(10_000, 500)) {
      const decision = decide(compiled, `GET ${probe.path} HTTP/1.1\nhost: ${probe.host}\n\n`);
      assert.equal(decision.action, 'forward', probe.path);
      assert.match(ruleOf(compiled, decision)!, new RegExp(`/${probe.route % 500}$`), probe.path);
    }
  });

  it('are not met by 2,000 hosts with seven names each', () => {
    const virtualHosts = Array.from({ length: 2000 }, (_, i) => ({
      name: `s${i}`,
      domains: ['', '.ns', '.ns.svc', '.ns.svc.cluster.local', ':80', '.ns:80', '.ns.svc:80'].map((d) => `s${i}${d}`),
      routes: [route(`r${i}`, path(text('prefix', '/')))],
    }));
    const compiled = compile(plan(listener([], { virtualHosts })));
    assert.deepEqual([...compiled.verdicts], []);
    for (const i of [0, 7, 1000, 1999]) {
      const decision = decide(compiled, `GET / HTTP/1.1\nhost: s${i}.ns.svc:80\n\n`);
      assert.equal(ruleOf(compiled, decision), `r${i}`);
    }
  });

  it('hold for patterns whose unions explode, and the rest of the listener stays', () => {
    const routes = Array.from({ length: 400 }, (_, i) => route(`r${i}`, path(regex(`.*key-${i}-.*end`))));
    const first = route('first', path(text('exact', '/first')));
    const compiled = compile(plan(listener([first, ...routes])));
    assert.equal(compiled.stats.listeners, 1);
    assert.equal(ruleOf(compiled, decide(compiled, get('/first'))), 'first');
    let kernel = 0;
    for (let i = 0; i < 400; i++) {
      const decision = decide(compiled, get(`/x/key-${i}-y/end`));
      if (decision.action === 'proxy') continue;
      kernel++;
      assert.equal(ruleOf(compiled, decision), `r${i}`);
    }
    assert.ok(kernel > 20, `${kernel} in the kernel`);
  });

  it('send what does not fit to the proxy, never elsewhere', () => {
    // Long different tails need far more states than there is room for.
    const routes = Array.from({ length: 12_000 }, (_, i) =>
      route(`r${i}`, path(text('exact', `/${i}/${'abcdefghijklmnopqrstuvwxyz'.repeat(2)}/${i * 7919}`))),
    );
    const compiled = compile(plan(listener(routes)));
    assert.ok(compiled.verdicts.size > 0 && compiled.verdicts.size < routes.length);
    let kernel = 0;
    for (let i = 0; i < routes.length; i += 37) {
      const p = `/${i}/${'abcdefghijklmnopqrstuvwxyz'.repeat(2)}/${i * 7919}`;
      const decision = decide(compiled, get(p));
      if (decision.action === 'proxy') {
        assert.ok(compiled.verdicts.has(`r${i}`));
        continue;
      }
      kernel++;
      assert.equal(ruleOf(compiled, decision), `r${i}`);
    }
    assert.ok(kernel > 10, `${kernel} in the kernel`);
  });

  it('leave the rule and what follows it to the proxy when its match cannot be computed', () => {
    const compiled = compile(
      plan(
        listener([
          route('first', path(text('exact', '/first'))),
          route('second', { op: 'and', of: [path(text('prefix', '/a')), header('x', regex('\\C'))] }),
          route('third', path(text('prefix', '/'))),
        ]),
      ),
    );
    assert.deepEqual(
      [...compiled.verdicts].map(([id, reasons]) => [id, reasons[0]!.code]),
      [['second', 'regex']],
    );
    assert.equal(ruleOf(compiled, decide(compiled, get('/first'))), 'first');
    assert.equal(decide(compiled, get('/ab')).action, 'proxy');
    assert.equal(ruleOf(compiled, decide(compiled, get('/b'))), 'third');
  });

  it('hold for header slots', () => {
    const routes = Array.from({ length: 60 }, (_, i) => route(`r${i}`, header(`x-${i}`, text('exact', 'a'))));
    const compiled = compile(plan(listener(routes)));
    assert.equal(ruleOf(compiled, decide(compiled, get('/', 'x-3: a\n'))), 'r3');
    assert.equal(decide(compiled, get('/', 'x-59: a\n')).action, 'proxy');
    assert.ok(compiled.verdicts.has('r59') && !compiled.verdicts.has('r3'));
  });

  it('hold for facts, terms and candidates', () => {
    const many = Array.from({ length: 1500 }, (_, i) => route(`r${i}`, query('q', text('exact', `v${i}`))));
    const facts = compile(plan(listener(many)));
    assert.ok(facts.verdicts.size > 0);
    for (const i of [0, 3, 1499]) {
      const decision = decide(facts, get(`/?q=v${i}`));
      if (decision.action !== 'proxy') assert.equal(ruleOf(facts, decision), `r${i}`);
    }
    const or = (n: number): Condition => ({
      op: 'or',
      // one fact or another would be one literal
      of: [
        { op: 'and', of: [header(`h${n}`, text('exact', 'a')), header('x', text('exact', `${n}`))] },
        query('q', text('exact', `${n}`)),
      ],
    });
    const terms = compile(plan(listener([route('r', { op: 'and', of: Array.from({ length: 12 }, (_, n) => or(n)) })])));
    assert.equal(decide(terms, get('/')).action, 'proxy');
    assert.equal(terms.verdicts.get('r')?.[0]?.code, 'budget');
    const same = Array.from({ length: 600 }, (_, i) =>
      route(`r${i}`, { op: 'and', of: [path(text('exact', '/a')), header('x', text('exact', `${i}`))] }),
    );
    const candidates = compile(plan(listener(same)));
    assert.equal(ruleOf(candidates, decide(candidates, get('/a', 'x: 500\n'))), 'r500');
    assert.equal(decide(candidates, get('/a', 'x: 599\n')).action, 'proxy');
  });

  it('leave a listener out when the image is full', () => {
    const routes = Array.from({ length: 300 }, (_, i) => route(`r${i}`, path(text('exact', `/some/path/${i}`))));
    const small = listener([route('s', path(text('prefix', '/')))], { name: 'small' });
    const options = { generation: 1, endpointId: (_: string, port: number) => port, proxyEndpointId: () => 0 };
    const alone = compileImage(plan(small), options).stats.bytes;
    const compiled = compileImage(plan(listener(routes), small), { ...options, limit: alone + 1000 });
    assert.equal(compiled.verdicts.size, 300);
    assert.equal(decide(compiled, get('/some/path/1')).action, 'proxy');
    assert.equal(compiled.stats.listeners, 1);
  });

  it('leave an action to the proxy whose cluster is not known', () => {
    const action = forward({ clusters: [{ cluster: 'nowhere', weight: 1 }] });
    const compiled = compile(plan(listener([route('r', path(text('prefix', '/')), { action })])));
    assert.equal(decide(compiled, get('/')).action, 'proxy');
    assert.equal(compiled.verdicts.get('r')?.[0]?.code, 'cluster-unknown');
  });
});
