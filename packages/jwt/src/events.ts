import { type Channel, channel } from 'node:diagnostics_channel';
import type { JwtErrorCode } from './errors.ts';

/** `countersign:jwt:verified`: a token was accepted. */
export interface VerifiedEvent {
  readonly issuer: string;
  /** Whether the signature had been checked before. */
  readonly cached: boolean;
}

/** `countersign:jwt:refused`: a token was refused. Never holds the token. */
export interface RefusedEvent {
  readonly code: JwtErrorCode;
  readonly message: string;
  readonly member?: string;
}

/** `countersign:jwt:request-refused`: the guard answered a request itself. */
export interface RequestRefusedEvent extends RefusedEvent {
  readonly status: number;
}

/** `countersign:jwt:keys-refreshed`: an issuer's keys were fetched. */
export interface KeysRefreshedEvent {
  readonly issuer: string;
  readonly keys: number;
  /** Whether they differ from the ones before; cached tokens are then checked again. */
  readonly changed: boolean;
  readonly reason: KeysRequestReason;
}

/** `countersign:jwt:keys-failed`: an issuer's keys could not be fetched. */
export interface KeysFailedEvent {
  readonly issuer: string;
  readonly error: unknown;
  readonly reason: KeysRequestReason;
  /** When the issuer may be asked again, in milliseconds since 1970. */
  readonly retryAtMs: number;
}

/** Why an issuer was asked for its keys: there were none, they had aged, or a token named an unknown one. */
export type KeysRequestReason = 'initial' | 'age' | 'unknown-kid';

/** `countersign:jwt:key-ignored`: a key of a published set will not be used. */
export interface KeyIgnoredEvent {
  readonly issuer: string;
  readonly reason: string;
}

/** `countersign:jwt:store-failed`: a store could not be asked. */
export interface StoreFailedEvent {
  readonly store: 'denylist' | 'dpop-replays';
  readonly error: unknown;
}

/** `countersign:jwt:clock-stepped-back`: the clock went back by more than the tolerance. */
export interface ClockSteppedBackEvent {
  readonly stepMs: number;
}

/** A diagnostics channel that carries one kind of message. */
export interface TypedChannel<T> {
  readonly hasSubscribers: boolean;
  publish(message: T): void;
}

function typed<T>(name: string): TypedChannel<T> {
  return channel(`countersign:jwt:${name}`) as Channel & TypedChannel<T>;
}

export const verified: TypedChannel<VerifiedEvent> = typed('verified');
export const refused: TypedChannel<RefusedEvent> = typed('refused');
export const requestRefused: TypedChannel<RequestRefusedEvent> = typed('request-refused');
export const keysRefreshed: TypedChannel<KeysRefreshedEvent> = typed('keys-refreshed');
export const keysFailed: TypedChannel<KeysFailedEvent> = typed('keys-failed');
export const keyIgnored: TypedChannel<KeyIgnoredEvent> = typed('key-ignored');
export const storeFailed: TypedChannel<StoreFailedEvent> = typed('store-failed');
export const clockSteppedBack: TypedChannel<ClockSteppedBackEvent> = typed('clock-stepped-back');
