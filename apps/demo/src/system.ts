import { randomBytes } from 'node:crypto';
import { generateSecret } from '@countersign/webhooks';
import type { Happening } from './happenings.ts';
import { launch, type Running } from './process.ts';
import type { AuthorizationConfiguration, RegisteredClient } from './services/authorization.ts';
import type { CheckoutConfiguration } from './services/checkout.ts';
import type { GatewayConfiguration } from './services/gateway.ts';
import type { MerchantConfiguration } from './services/merchant.ts';
import type { PaymentsConfiguration } from './services/payments.ts';

/** Every process of the demo but the attacker. */
export interface System {
  readonly authorization: Running;
  readonly checkout: Running;
  /** What callers reach: the gateway in front of the instances. */
  readonly payments: Running;
  readonly instances: readonly [Running, ...Running[]];
  readonly merchant: Running;
  readonly webhookSecret: string;
  stop(): Promise<void>;
}

/** The resource that tokens for the payment service are issued for (RFC 8707). */
export const paymentsAudience = 'https://payments.example.com';
/** Another service of the same issuer. */
export const otherAudience = 'https://reports.example.com';

/** How many webhooks the merchant fails, and how many answers the gateway loses, before all is well. */
const merchantFailures = 2;
const gatewayLosses = 1;

/**
 * Starts the system: with a Redis, two instances of the payment service share it.
 * @param seen - told what the packages say in each service; default nobody listens.
 */
export async function startSystem(
  redisUrl: string | undefined,
  seen?: (service: string, happening: Happening) => void,
): Promise<System> {
  const launched: Promise<Running>[] = [];
  const start = <C>(service: string, configuration: C): Promise<Running> => {
    const process = launch(
      service,
      configuration,
      seen && ((happening) => seen(service, happening)),
    );
    launched.push(process);
    return process;
  };
  const stop = async (): Promise<void> => {
    // Those that are still starting, too; one that could not start is gone already.
    await Promise.allSettled(launched.map(async (process) => (await process).stop()));
  };
  try {
    const webhookSecret = generateSecret();
    const [authorization, merchant] = await Promise.all([
      start<AuthorizationConfiguration>('authorization', {
        resources: [paymentsAudience, otherAudience],
      }),
      start<MerchantConfiguration>('merchant', { webhookSecret, failures: merchantFailures }),
    ]);
    const pepper = randomBytes(32).toString('base64');
    const keyPrefix = `demo:${randomBytes(4).toString('hex')}:`;
    const redis = redisUrl === undefined ? undefined : { url: redisUrl, keyPrefix };
    const startInstance = () =>
      start<PaymentsConfiguration>('payments', {
        issuer: authorization.url,
        audience: paymentsAudience,
        pepper,
        webhookSecret,
        webhookEndpoint: `${merchant.url}/webhooks/payments`,
        webhookScheduleMs: [0, 100, 200, 400],
        ...(redis && { redis }),
      });
    const first = await startInstance();
    const others = redisUrl === undefined ? [] : [await startInstance()];
    const payments = await start<GatewayConfiguration>('gateway', {
      instances: [first.url, ...others.map(({ url }) => url)],
      losses: gatewayLosses,
    });
    const checkout = await start<CheckoutConfiguration>('checkout', {
      issuer: authorization.url,
      client: await authorization.ask<RegisteredClient>('client'),
      paymentsOrigin: payments.url,
      paymentsAudience,
    });
    const instances = [first, ...others] as const;
    return { authorization, checkout, payments, instances, merchant, webhookSecret, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
