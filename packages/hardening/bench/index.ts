import { benchResponses } from './responses.ts';

await benchResponses();
