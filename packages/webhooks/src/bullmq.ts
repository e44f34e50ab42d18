export type { AgentFor } from './bullmq/directory.ts';
export { createInbox, type Inbox, type InboxOptions, type InboxWebhook } from './bullmq/inbox.ts';
export type { EndpointState } from './bullmq/ledger.ts';
export {
  createWebhookQueue,
  type DeadLetter,
  defaultBreaker,
  type QueueStats,
  type WebhookQueue,
  type WebhookQueueOptions,
} from './bullmq/queue.ts';
export type { ClosableDispatcher } from './bullmq/shared-agent.ts';
export type { BreakerSettings } from './bullmq/turn.ts';
export type { WebhookWorker, WorkerOptions } from './bullmq/worker.ts';
