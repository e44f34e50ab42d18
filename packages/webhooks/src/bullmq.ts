export type { AgentFor, ClosableDispatcher } from './bullmq/directory.ts';
export { createInbox, type Inbox, type InboxOptions, type InboxWebhook } from './bullmq/inbox.ts';
export type { EndpointState } from './bullmq/ledger.ts';
export {
  createWebhookQueue,
  type DeadLetter,
  defaultBreaker,
  type QueueStats,
  type WebhookQueue,
  type WebhookQueueOptions,
  type WebhookWorker,
  type WorkerOptions,
} from './bullmq/queue.ts';
export type { BreakerSettings } from './bullmq/turn.ts';
