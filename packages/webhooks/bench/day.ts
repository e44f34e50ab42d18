import { shardOf } from '../src/bullmq/shard.ts';

/** What was measured. */
export interface Costs {
  /** CPU of a worker for one delivery, its share of claims and settlements included. */
  readonly workerMicros: number;
  /** CPU of Redis for one delivery, published and delivered. */
  readonly redisMicros: number;
  /** Memory of Redis for a pending delivery, when no other endpoint gets the event. */
  readonly pendingBytes: number;
}

export interface Installation {
  readonly shards: number;
  readonly masters: number;
  /** Cores that do nothing but deliver. */
  readonly workers: number;
}

/** What became of a day. */
export interface Day {
  readonly deliveries: number;
  readonly peakPerSecond: number;
  /** How long a new event for a healthy endpoint waits, at worst. */
  readonly worstWaitSeconds: number;
  /** How long it takes, at worst, to deliver what waited for endpoints that are back. */
  readonly catchUpSeconds: number;
  readonly mostPending: number;
  readonly mostGigabytes: number;
  /** The busiest second of the busiest master, as a part of one core; without what is caught up. */
  readonly busiestMaster: number;
  readonly busiestWorkers: number;
  /** What the busiest endpoint gets at the peak; one worker process drains it. */
  readonly busiestEndpointPerSecond: number;
}

const SECONDS = 86_400;
const ENDPOINTS = 10_000;
/** Of all endpoints, so many are dead at any time, each for {@link OUTAGE_SECONDS}. */
const DEAD = 0.01;
const OUTAGE_SECONDS = 6 * 3600;

/**
 * A day of 10⁹ events, second by second: traffic that swings by ±60 % around its mean, with three times the mean for ten
 * minutes; 10,000 endpoints of which the largest gets 3.7 %, spread over the shards as the queue does it; one in a
 * hundred is dead, for six hours, and its deliveries wait. When it is back they are delivered with what is left over:
 * it has one drain job, as everybody has.
 */
export function simulateDay(
  { shards, masters, workers }: Installation,
  costs: Costs,
  eventsPerDay = 1e9,
): Day {
  const shares = sharesOf(ENDPOINTS);
  const ofMaster = new Float64Array(masters);
  for (const [index, share] of shares.entries()) {
    const master = shardOf(`ep_${index}`, shards) % masters;
    ofMaster[master] = at(ofMaster, master) + share;
  }
  const deadShares = outages(shares);
  const redisPerSecond = 1e6 / costs.redisMicros;
  const workersPerSecond = (workers * 1e6) / costs.workerMicros;
  const fresh = new Float64Array(masters);
  const returned = new Float64Array(masters);
  const day = {
    deliveries: 0,
    peakPerSecond: 0,
    worstWaitSeconds: 0,
    catchUpSeconds: 0,
    mostPending: 0,
    busiestMaster: 0,
    busiestWorkers: 0,
  };
  let [dead, catchingUp] = [0, 0];

  for (let second = 0; second < SECONDS; second += 1) {
    const rate = (eventsPerDay / SECONDS) * load(second);
    const deadShare = deadShares[Math.floor(second / OUTAGE_SECONDS)] ?? 0;
    const back = second % OUTAGE_SECONDS === 0 ? dead : 0;
    dead += rate * deadShare - back;
    let workersLeft = workersPerSecond;
    const redisLeft = new Float64Array(masters).fill(redisPerSecond);
    const take = (from: Float64Array, master: number): void => {
      const taken = Math.min(at(from, master), at(redisLeft, master), workersLeft);
      from[master] = at(from, master) - taken;
      redisLeft[master] = at(redisLeft, master) - taken;
      workersLeft -= taken;
      day.deliveries += taken;
    };
    for (let master = 0; master < masters; master += 1) {
      fresh[master] = at(fresh, master) + rate * (1 - deadShare) * at(ofMaster, master);
      returned[master] = at(returned, master) + back * at(ofMaster, master);
      take(fresh, master);
      const wait = at(fresh, master) / (rate * at(ofMaster, master));
      day.worstWaitSeconds = Math.max(day.worstWaitSeconds, wait);
    }
    for (let master = 0; master < masters; master += 1) {
      day.busiestMaster = Math.max(day.busiestMaster, 1 - at(redisLeft, master) / redisPerSecond);
    }
    day.busiestWorkers = Math.max(day.busiestWorkers, 1 - workersLeft / workersPerSecond);
    for (let master = 0; master < masters; master += 1) take(returned, master);
    const behind = sum(returned);
    catchingUp = behind > 1 ? catchingUp + 1 : 0;
    day.catchUpSeconds = Math.max(day.catchUpSeconds, catchingUp);
    day.peakPerSecond = Math.max(day.peakPerSecond, rate);
    day.mostPending = Math.max(day.mostPending, dead + behind + sum(fresh));
  }
  return {
    ...day,
    mostGigabytes: (day.mostPending * costs.pendingBytes) / 1e9,
    busiestEndpointPerSecond: day.peakPerSecond * (shares[0] ?? 0),
  };
}

/** Which part of the traffic each endpoint gets: a Zipf distribution, exponent 0.8. */
function sharesOf(endpoints: number): readonly number[] {
  const weights = Array.from({ length: endpoints }, (_, rank) => (rank + 1) ** -0.8);
  const total = sum(weights);
  return weights.map((weight) => weight / total);
}

function at(array: Float64Array, index: number): number {
  return array[index] ?? 0;
}

function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}

/** Around 1: a swing over the day, and ten minutes of three times the mean at its height. */
function load(second: number): number {
  const noon = SECONDS / 2;
  if (Math.abs(second - noon) < 300) return 3;
  return 1 - 0.6 * Math.cos((2 * Math.PI * second) / SECONDS);
}

/** Which part of the traffic goes to dead endpoints, in each quarter of the day: every hundredth, others each time. */
function outages(shares: readonly number[]): readonly number[] {
  const every = Math.round(1 / DEAD);
  return Array.from({ length: SECONDS / OUTAGE_SECONDS }, (_, period) =>
    shares.reduce((sum, share, index) => (index % every === period + 1 ? sum + share : sum), 0),
  );
}
