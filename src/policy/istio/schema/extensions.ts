/** EnvoyFilter, WasmPlugin, Telemetry and Sidecar, as far as they tell what they are about. */
import { z } from 'zod';
import { labels, nonEmpty, targetRef } from './common.js';

const workloadSelector = () => z.object({ labels: labels().optional() });
const matchSelector = () => z.object({ matchLabels: labels().optional() });
const targets = () => ({ targetRef: targetRef().optional(), targetRefs: z.array(targetRef()).optional() });

const CONTEXTS = ['ANY', 'SIDECAR_INBOUND', 'SIDECAR_OUTBOUND', 'GATEWAY', 'WAYPOINT'] as const;

const route = () => z.looseObject({ name: z.string().optional(), action: z.string().optional() });
const patch = () =>
  z.looseObject({
    applyTo: z.string().optional(),
    match: z
      .looseObject({
        context: z.enum(CONTEXTS).optional(),
        proxy: z
          .looseObject({ proxyVersion: z.string().optional(), metadata: z.record(z.string(), z.string()).optional() })
          .optional(),
        listener: z
          .looseObject({
            portNumber: z.number().optional(),
            name: z.string().optional(),
            listenerFilter: z.string().optional(),
            filterChain: z
              .looseObject({
                name: z.string().optional(),
                sni: z.string().optional(),
                transportProtocol: z.string().optional(),
                applicationProtocols: z.string().optional(),
                destinationPort: z.number().optional(),
                filter: z
                  .looseObject({
                    name: z.string().optional(),
                    subFilter: z.looseObject({ name: z.string().optional() }).optional(),
                  })
                  .optional(),
              })
              .optional(),
          })
          .optional(),
        routeConfiguration: z
          .looseObject({
            portNumber: z.number().optional(),
            portName: z.string().optional(),
            name: z.string().optional(),
            gateway: z.string().optional(),
            vhost: z
              .looseObject({
                name: z.string().optional(),
                domainName: z.string().optional(),
                route: route().optional(),
              })
              .optional(),
          })
          .optional(),
        cluster: z
          .looseObject({
            portNumber: z.number().optional(),
            service: z.string().optional(),
            subset: z.string().optional(),
            name: z.string().optional(),
          })
          .optional(),
      })
      .optional(),
    patch: z.looseObject({ operation: z.string().optional(), value: z.unknown().optional() }).optional(),
  });
export type ConfigPatch = z.infer<ReturnType<typeof patch>>;

export const envoyFilter = z.looseObject({
  workloadSelector: workloadSelector().optional(),
  ...targets(),
  configPatches: z.array(patch()).optional(),
  priority: z.number().optional(),
});
export type EnvoyFilter = z.infer<typeof envoyFilter>;

export const MODES = ['UNDEFINED', 'CLIENT', 'SERVER', 'CLIENT_AND_SERVER'] as const;

export const wasmPlugin = z.looseObject({
  selector: matchSelector().optional(),
  ...targets(),
  match: z.array(z.looseObject({ mode: z.enum(MODES).optional() })).optional(),
});
export type WasmPlugin = z.infer<typeof wasmPlugin>;

const mode = () => z.looseObject({ mode: z.enum(MODES).optional() }).optional();
const provider = () => z.array(z.looseObject({ name: z.string().optional() })).optional();

export const telemetry = z.looseObject({
  selector: matchSelector().optional(),
  ...targets(),
  accessLogging: z
    .array(
      z.looseObject({
        match: mode(),
        providers: provider(),
        disabled: z.boolean().optional(),
        filter: z.looseObject({ expression: z.string().optional() }).optional(),
      }),
    )
    .optional(),
  tracing: z
    .array(
      z.looseObject({
        match: mode(),
        providers: provider(),
        randomSamplingPercentage: z.number().optional(),
        disableSpanReporting: z.boolean().optional(),
      }),
    )
    .optional(),
  metrics: z.array(z.unknown()).optional(),
});
export type Telemetry = z.infer<typeof telemetry>;

export const sidecar = z.looseObject({
  workloadSelector: workloadSelector().optional(),
  ingress: z.array(z.unknown()).optional(),
  egress: z
    .array(
      z.looseObject({
        hosts: z
          .array(
            nonEmpty().refine((host) => host.includes('/'), 'must be namespace/host (such as ./* or */example.com)'),
          )
          .min(1, 'names no host'),
        port: z.unknown().optional(),
        bind: z.string().optional(),
        captureMode: z.string().optional(),
      }),
    )
    .optional(),
  inboundConnectionPool: z.unknown().optional(),
  outboundTrafficPolicy: z.looseObject({ mode: z.string().optional(), egressProxy: z.unknown().optional() }).optional(),
});
export type Sidecar = z.infer<typeof sidecar>;
